import encodings.idna  # an address goes through it, and an instance has no files to load it from
import json
import socket

import wit_world
from componentize_py_types import Err
from wit_world import Error, Kind

calls = 0


class WitWorld(wit_world.WitWorld):
    def handle(self, context: str, payload: str) -> str:
        global calls
        calls += 1
        payload = json.loads(payload)
        what = payload.get("what")
        if what == "input":
            raise Err(Error(Kind.INPUT, "a name is needed", ["app.py:1"]))
        if what == "raise":
            raise KeyError("broke")
        if what == "calls":
            return json.dumps(calls)
        if what == "file":
            try:
                with open("/etc/passwd") as file:
                    return json.dumps(file.read())
            except OSError as error:
                return json.dumps(type(error).__name__)
        if what == "memory":
            try:
                return json.dumps(len(b"x" * (1 << 30)))
            except MemoryError:
                return json.dumps("MemoryError")
        if what == "connect":
            try:
                with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as end:
                    end.connect(("127.0.0.1", payload["port"]))
                    return json.dumps("connected")
            except OSError as error:
                return json.dumps(f"refused: {error}")
        if what == "loop":
            while True:
                pass
        print(f"greeting {payload['name']}")
        return json.dumps({"myField": f"Hello, {payload['name']}"}, indent=2)
