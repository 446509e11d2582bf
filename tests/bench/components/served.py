"""The function of the benchmarks behind wasi:http, for `wasmtime serve`."""

import json

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import Fields, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        received = request.consume()  # it has to outlive its stream
        with received.stream() as stream:
            payload = json.loads(stream.blocking_read(65536))
        answer = json.dumps({"myField": "Hello, %s from %s" % (payload["name"], payload["place"])})
        response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            stream.blocking_write_and_flush(answer.encode())
        OutgoingBody.finish(body, None)
