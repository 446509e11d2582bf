"""Says hello.

    dispatch create function python3 hello-py hello.py \
        --schema-in ../hello.in.json --schema-out ../hello.out.json
    dispatch exec hello-py --wait --input '{"name": "Jon", "place": "Winterfell"}'
"""


def handle(context, payload):
    greeted = payload or {}
    name = greeted.get("name", "Noone")
    place = greeted.get("place", "Nowhere")
    return {"myField": f"Hello, {name} from {place}"}
