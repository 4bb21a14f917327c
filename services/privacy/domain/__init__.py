"""Pure: consents, the gate, and the steps of an erasure."""
