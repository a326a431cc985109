"""settlement: the nightly batch job. It has no web side, so `s2s-mesh serve` publishes its keys.

python settlement.py               settle one wallet
python settlement.py --overreach   change a card, for which trust.toml grants settlement no scope
"""

import sys

import httpx
from starlette.config import Config

from s2s_mesh import MeshError, Service

WALLETS = Config()("WALLETS_URL", default="http://127.0.0.1:8102")


def main(*, overreach: bool) -> None:
    """Make one call and print what wallets answered."""
    service = Service.from_env()
    scope = "cards:write" if overreach else "settlements:write"
    method, path = ("PUT", "card") if overreach else ("POST", "settlements")
    auth = service.auth(WALLETS, scopes=[scope])
    with service, httpx.Client(base_url=WALLETS, auth=auth) as wallets:
        answer = wallets.request(method, f"/wallets/42/{path}")
    print(answer.status_code, f"{answer.elapsed.total_seconds() * 1000:.0f} ms", answer.text)


if __name__ == "__main__":
    try:
        main(overreach="--overreach" in sys.argv[1:])
    except (MeshError, httpx.HTTPError) as problem:
        sys.exit(f"settlement: {problem}")
