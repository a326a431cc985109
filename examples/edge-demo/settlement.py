"""settlement: the nightly batch job. It has no web side, so `s2s-mesh serve` publishes its keys.

python settlement.py               settle one wallet
python settlement.py --overreach   change a card, for which trust.toml grants settlement no scope
python settlement.py --entries     read what only users may read
"""

import sys

import httpx
from starlette.config import Config

from s2s_mesh import MeshError, Service

WALLETS = Config()("WALLETS_URL", default="http://127.0.0.1:8102")
CALLS = {
    "": ("POST", "settlements", ["settlements:write"]),
    "--overreach": ("PUT", "card", ["cards:write"]),
    "--entries": ("GET", "entries", None),
}


def main(what: str) -> None:
    """Make one call and print what wallets answered."""
    method, path, scopes = CALLS[what]
    service = Service.from_env()
    auth = service.auth(WALLETS, scopes=scopes, once=True)  # settlements take a token once
    with service, httpx.Client(base_url=WALLETS, auth=auth) as wallets:
        answer = wallets.request(method, f"/wallets/42/{path}")
    print(answer.status_code, f"{answer.elapsed.total_seconds() * 1000:.0f} ms", answer.text)


if __name__ == "__main__":
    try:
        main("".join(sys.argv[1:]))
    except (MeshError, httpx.HTTPError) as problem:
        sys.exit(f"settlement: {problem}")
