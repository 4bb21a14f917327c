"""An empty nameko @http handler: what the edge is measured against."""

import eventlet

eventlet.monkey_patch()

import sys

from nameko.containers import ServiceContainer
from nameko.web.handlers import http


class Empty:
    """Reads the body and answers."""

    name = "empty"

    @http("POST", "/v1/track")
    def post(self, request):
        request.get_data()
        return '{"success":true}'


if __name__ == "__main__":
    # It never talks to a broker: nothing in it needs one.
    config = {"WEB_SERVER_ADDRESS": f"127.0.0.1:{sys.argv[1]}", "AMQP_URI": "memory://", "max_workers": 64}
    container = ServiceContainer(Empty, config)
    container.start()
    container.wait()
