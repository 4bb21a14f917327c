"""privacy, profile and segmentation as activation asks them, as nameko services: yes to everybody."""

import eventlet

eventlet.monkey_patch()

from nameko.rpc import rpc
from nameko.runners import ServiceRunner

from shared.config import Settings
from shared.rpc import configure, nameko_config
from tests.integration.activation_world import SEGMENT


class Privacy:
    """The gate, open."""

    name = "privacy"

    @rpc
    def decide(self, requests):
        return [{"allow": True, "reason": "consent", "again": False} for _ in requests]


class Profile:
    """The facts: one user id each."""

    name = "profile"

    @rpc
    def facts(self, profiles, classes=("ordinary",)):
        return {each: {"profile": each, "facts": {"ids": {"user": {each[:6]: [1, 2, "e", "s"]}}}} for each in profiles}


class Segmentation:
    """One segment."""

    name = "segmentation"

    @rpc
    def segments(self):
        row = {"segment": SEGMENT, "key": "buyers", "name": "Buyers", "version": 1, "definition": {"trait": "plan"}}
        return [row]


if __name__ == "__main__":
    configure()
    runner = ServiceRunner(nameko_config(Settings.from_env(), "privacy"))
    for service in (Privacy, Profile, Segmentation):
        runner.add_service(service)
    runner.start()
    runner.wait()
