"""Brokers made with a library that is not Dispatch's, for runs that compare.

One process holds SLOTS brokers, each below its own path. Below `control` a test says how a broker
is to be, and asks what it holds. The credentials come from the environment.
"""

import json
import logging
import os
import threading
import time

from flask import Flask, jsonify, request
from openbrokerapi import errors
from openbrokerapi.api import get_blueprint
from openbrokerapi.auth import BrokerCredentials
from openbrokerapi.catalog import ServicePlan
from openbrokerapi.service_broker import (
    Binding,
    BindState,
    DeprovisionServiceSpec,
    GetBindingSpec,
    GetInstanceDetailsSpec,
    LastOperation,
    OperationState,
    ProvisionedServiceSpec,
    ProvisionState,
    Service,
    ServiceBroker,
    UnbindSpec,
    UpdateServiceSpec,
)
from werkzeug.serving import WSGIRequestHandler, make_server

SLOTS = 256


class Thing:
    """An instance or a binding."""

    def __init__(self, asked, told):
        self.asked = asked
        self.told = told
        self.work = None


class Work:
    """What is under way with a thing."""

    def __init__(self, kind, pace, becomes=None):
        self.kind = kind
        self.becomes = becomes
        self.polls = pace.get("polls", 0)
        self.until = time.monotonic() + pace["ms"] / 1000 if "ms" in pace else None

    def is_due(self):
        """Whether it is done, without being asked how it goes."""
        return self.until is not None and time.monotonic() >= self.until

    def goes_on(self):
        """Whether it is not done when it is asked how it goes."""
        if self.until is not None:
            return not self.is_due()
        self.polls -= 1
        return self.polls >= 0


class Broker(ServiceBroker):
    """Keeps everything in memory, and works at once or at the pace that it was told."""

    def __init__(self):
        self.lock = threading.RLock()
        self.pace = {}
        self.operation = "work +/=&?%"
        self.services = []
        self.things = {}
        self.passwords = 0

    def control(self, said):
        with self.lock:
            if "pace" in said:
                self.pace = said["pace"]
            if "operation" in said:
                self.operation = said["operation"]
            if "catalog" in said:
                self.services = [
                    Service(**{**one, "plans": [ServicePlan(**plan) for plan in one["plans"]]})
                    for one in said["catalog"]["services"]
                ]

    def holds(self):
        with self.lock:
            for key in list(self.things):
                self.settle(key)
            keys = list(self.things)
        return {
            "instances": sorted(instance for instance, binding in keys if not binding),
            "bindings": sorted(binding for _, binding in keys if binding),
        }

    def catalog(self):
        return self.services

    def settle(self, key):
        thing = self.things.get(key)
        if thing and thing.work and thing.work.is_due():
            self.finish(key)
        return self.things.get(key)

    def finish(self, key):
        work, self.things[key].work = self.things[key].work, None
        if work.becomes:
            self.things[key].asked.update(work.becomes)
        if work.kind == "delete":
            del self.things[key]

    def begin(self, async_allowed, kind, becomes=None):
        if not self.pace:
            return None
        if not async_allowed:
            raise errors.ErrAsyncRequired()
        return Work(kind, self.pace, becomes)

    def poll(self, key):
        thing = self.things.get(key)
        if thing is None:
            if key[1]:
                # The library has no way to say that a binding is gone.
                return LastOperation(OperationState.SUCCEEDED, "gone")
            raise errors.ErrInstanceDoesNotExist()
        if thing.work:
            if thing.work.goes_on():
                return LastOperation(OperationState.IN_PROGRESS, "working")
            self.finish(key)
        return LastOperation(OperationState.SUCCEEDED, "done")

    def provision(self, instance_id, details, async_allowed, **kwargs):
        with self.lock:
            key = (instance_id, "")
            asked = {
                "service_id": details.service_id,
                "plan_id": details.plan_id,
                "parameters": details.parameters,
                "context": details.context,
            }
            url = f"http://foreign/{instance_id}"
            thing = self.settle(key)
            if thing:
                if thing.asked != asked:
                    raise errors.ErrInstanceAlreadyExists()
                state = ProvisionState.IS_ASYNC if thing.work else ProvisionState.IDENTICAL_ALREADY_EXISTS
                return ProvisionedServiceSpec(state, url, self.operation if thing.work else None)
            work = self.begin(async_allowed, "create")
            self.things[key] = Thing(asked, url)
            self.things[key].work = work
            if work:
                return ProvisionedServiceSpec(ProvisionState.IS_ASYNC, url, self.operation)
            return ProvisionedServiceSpec(ProvisionState.SUCCESSFUL_CREATED, url)

    def update(self, instance_id, details, async_allowed, **kwargs):
        with self.lock:
            key = (instance_id, "")
            thing = self.settle(key)
            if thing is None:
                raise errors.ErrBadRequest("no such instance")
            if thing.work:
                raise errors.ErrConcurrentInstanceAccess()
            becomes = {}
            if details.plan_id:
                becomes["plan_id"] = details.plan_id
            if details.parameters is not None:
                becomes["parameters"] = details.parameters
            thing.work = self.begin(async_allowed, "update", becomes)
            if thing.work:
                return UpdateServiceSpec(True, self.operation)
            thing.asked.update(becomes)
            return UpdateServiceSpec(False)

    def deprovision(self, instance_id, details, async_allowed, **kwargs):
        with self.lock:
            key = (instance_id, "")
            work = self.delete(key, async_allowed, errors.ErrInstanceDoesNotExist)
            return DeprovisionServiceSpec(work is not None, work and self.operation)

    def delete(self, key, async_allowed, absent):
        thing = self.settle(key)
        if thing is None:
            raise absent()
        if thing.work and thing.work.kind != "delete":
            raise errors.ErrConcurrentInstanceAccess()
        if not key[1] and any(key[0] == instance and own for instance, own in self.things):
            raise errors.ErrBadRequest("the instance still has bindings")
        if not thing.work:
            thing.work = self.begin(async_allowed, "delete")
            if not thing.work:
                del self.things[key]
        return thing.work

    def bind(self, instance_id, binding_id, details, async_allowed, **kwargs):
        with self.lock:
            key = (instance_id, binding_id)
            asked = {
                "service_id": details.service_id,
                "plan_id": details.plan_id,
                "parameters": details.parameters,
                "context": details.context,
            }
            thing = self.settle(key)
            if thing:
                if thing.asked != asked:
                    raise errors.ErrBindingAlreadyExists()
                if thing.work:
                    return Binding(BindState.IS_ASYNC, operation=self.operation)
                return Binding(BindState.IDENTICAL_ALREADY_EXISTS, thing.told)
            instance = self.settle((instance_id, ""))
            if instance is None:
                raise errors.ErrBadRequest("no such instance")
            if instance.work:
                raise errors.ErrConcurrentInstanceAccess()
            work = self.begin(async_allowed, "create")
            self.passwords += 1
            told = {
                "host": "127.0.0.1",
                "port": 5432,
                "username": "bound",
                "password": f"canary-binding-{self.passwords}",
            }
            self.things[key] = Thing(asked, told)
            self.things[key].work = work
            if work:
                return Binding(BindState.IS_ASYNC, operation=self.operation)
            return Binding(BindState.SUCCESSFUL_BOUND, told)

    def unbind(self, instance_id, binding_id, details, async_allowed, **kwargs):
        with self.lock:
            key = (instance_id, binding_id)
            work = self.delete(key, async_allowed, errors.ErrBindingDoesNotExist)
            return UnbindSpec(work is not None, work and self.operation)

    def get_instance(self, instance_id, **kwargs):
        with self.lock:
            thing = self.settle((instance_id, ""))
            if thing is None or (thing.work and thing.work.kind == "create"):
                raise errors.ErrInstanceDoesNotExist()
            if thing.work and thing.work.kind == "update":
                raise errors.ErrConcurrentInstanceAccess()
            asked = thing.asked
            return GetInstanceDetailsSpec(
                asked["service_id"], asked["plan_id"], thing.told, asked["parameters"]
            )

    def get_binding(self, instance_id, binding_id, **kwargs):
        with self.lock:
            thing = self.settle((instance_id, binding_id))
            if thing is None or thing.work:
                raise errors.ErrBindingDoesNotExist()
            return GetBindingSpec(thing.told)

    def last_operation(self, instance_id, operation_data, service_id, plan_id, **kwargs):
        with self.lock:
            return self.poll((instance_id, ""))

    def last_binding_operation(
        self, instance_id, binding_id, operation_data, service_id, plan_id, **kwargs
    ):
        with self.lock:
            return self.poll((instance_id, binding_id))


class Quiet(WSGIRequestHandler):
    """Logs nothing, and keeps connections as a real server does."""

    protocol_version = "HTTP/1.1"

    def log(self, type, message, *args):
        pass


def main():
    logging.disable(logging.CRITICAL)
    credentials = BrokerCredentials(os.environ["BROKER_USERNAME"], os.environ["BROKER_PASSWORD"])
    app = Flask(__name__)
    brokers = [Broker() for _ in range(SLOTS)]
    for slot, broker in enumerate(brokers):
        blueprint = get_blueprint(broker, credentials, logging.getLogger("broker"))
        app.register_blueprint(blueprint, url_prefix=f"/{slot}", name=f"broker-{slot}")

    @app.route("/<int:slot>/control", methods=["GET", "PUT"])
    def control(slot):
        if request.method == "PUT":
            brokers[slot].control(json.loads(request.data))
        return jsonify(brokers[slot].holds())

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    print(f"Ready {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
