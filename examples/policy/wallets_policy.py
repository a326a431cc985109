"""What wallets allows beyond its trust file. The same rules in Rego: wallets.rego"""

from s2s_mesh import Decision, PolicyFacts, Principal

DESK = "https://desk.example.com"
LOGIN = "https://login.example.com/"


class WalletsPolicy:
    """`Service(..., policy=WalletsPolicy())`."""

    def decide(self, facts: PolicyFacts, principal: Principal) -> Decision:
        if principal.user is not None and principal.user.issuer != LOGIN:
            return Decision.deny(f"users of {principal.user.issuer} are not known here")
        match (facts.method, *facts.path):
            case ("GET" | "HEAD", "wallets", wallet, "card") if wallet:
                return self._needs("cards:read", principal)
            case ("PUT", "wallets", wallet, "card") if wallet:
                if wallet.startswith("reserved-") and principal.issuer != DESK:
                    return Decision.deny("reserved wallets are changed by the desk only")
                return self._change("cards:write", facts, principal)
            case ("DELETE", "wallets", wallet) if wallet:
                if facts.time - principal.claims["iat"] > 30:
                    return Decision.deny("what cannot be undone needs a token that was made just now")
                if principal.user is not None and "mfa" not in principal.user.amr:
                    return Decision.deny("what cannot be undone needs two factors")
                return self._change("cards:admin", facts, principal)
        return Decision.deny("no rule for this call")

    def _change(self, scope: str, facts: PolicyFacts, principal: Principal) -> Decision:
        if 7200 <= facts.time % 86400 < 7500:  # 02:00 to 02:05 UTC
            return Decision.deny("the books are closed")
        return self._needs(scope, principal)

    def _needs(self, scope: str, principal: Principal) -> Decision:
        return Decision(scope in principal.scopes, f"needs {scope}")
