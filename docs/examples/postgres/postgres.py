"""Keeps rows in the PostgreSQL database that is bound to the function.

    dispatch create image python3-pg python3-base --runtime-deps requirements.txt
    dispatch create function python3-pg pg-example postgres.py --service azure-pg \
        --schema-in postgres.schema.json
    dispatch exec pg-example --wait --input '{"num": 1, "data": "hello everyone"}'

Each run opens one connection of its own, adds its row, and answers with all rows.
"""

import sys
import time

import psycopg2

BINDING = "azure-pg"
TRIES = 5
FIRST_PAUSE_S = 0.2

CREATE = "CREATE TABLE IF NOT EXISTS demo (id serial PRIMARY KEY, num numeric, data text)"
INSERT = "INSERT INTO demo (num, data) VALUES (%s, %s)"
SELECT = "SELECT num, data FROM demo ORDER BY num, id"
# Two first runs at the same time would both find no table, and one would fail to create it.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('demo'))"


def binding(context):
    """The binding by its usual name, or else the only one there is."""
    bindings = context["serviceBindings"]
    if BINDING in bindings:
        return bindings[BINDING]
    if len(bindings) == 1:
        return next(iter(bindings.values()))
    raise RuntimeError(f"expected a service binding named {BINDING}, found {sorted(bindings)}")


def connect(database):
    """Connects; a database that was just made may need some tries."""
    pause = FIRST_PAUSE_S
    for left in reversed(range(TRIES)):
        try:
            return psycopg2.connect(
                host=database["host"],
                port=database["port"],
                dbname=database["database"],
                user=database["username"],
                password=database["password"],
                sslmode="require",
                connect_timeout=10,
            )
        except psycopg2.OperationalError:
            if left == 0:
                raise
            time.sleep(pause)
            pause *= 2


def plain(num):
    """A number as JSON has it: numeric columns come back as Decimal."""
    return int(num) if num == int(num) else float(num)


def handle(context, payload):
    connection = connect(binding(context))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(LOCK)
            cursor.execute(CREATE)
            cursor.execute(INSERT, (payload["num"], payload["data"]))
            cursor.execute(SELECT)
            rows = [{"num": plain(num), "data": data} for num, data in cursor.fetchall()]
    finally:
        connection.close()
    for row in rows:
        print(f"num: {row['num']}, data: {row['data']}", file=sys.stderr)
    return rows
