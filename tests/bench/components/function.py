"""The function of the benchmarks as a component of the world in function.wit."""

import json

import wit_world


class WitWorld(wit_world.WitWorld):
    def handle(self, context: str, payload: str) -> str:
        payload = json.loads(payload)
        return json.dumps({"myField": "Hello, %s from %s" % (payload["name"], payload["place"])})
