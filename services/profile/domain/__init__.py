"""Pure: the fold of events into states, the merge of states into a profile, and how a profile is read."""
