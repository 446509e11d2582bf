"""Says hello. `handle` is called once for each run."""


def handle(context, payload):
    name = payload.get("name", "world")
    print(f"greeting {name}")  # what is printed is the run's log
    return {"greeting": f"Hello, {name}!"}
