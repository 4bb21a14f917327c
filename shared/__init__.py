"""Samla's library: what every service stands on."""

import warnings

# nameko stands on eventlet, and eventlet says at every import that it is in maintenance. We know: nothing
# but the services' shells depends on it.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
