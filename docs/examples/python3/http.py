"""Asks a web server and answers with the status of its response.

The image needs requests (`dispatch create image python3 python3-base --runtime-deps
requirements.txt`), and the function a network policy that lets it out.

    dispatch exec http-py --wait --input '{"url": "http://www.example.com"}'
"""

import requests


def handle(context, payload):
    url = (payload or {}).get("url", "http://www.example.com")
    answer = requests.get(url, timeout=10)
    return {"status": answer.status_code}
