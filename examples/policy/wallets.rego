# What wallets allows beyond its trust file. The same rules in Python: wallets_policy.py
package wallets

default allow := false

allow if {
	input.version == 1
	known_user
	may
}

known_user if input.user == null

known_user if input.user.issuer == "https://login.example.com/"

# whoever may read, may read every card
may if {
	input.method in {"GET", "HEAD"}
	["wallets", wallet, "card"] = input.path
	wallet != ""
	"cards:read" in input.caller.scopes
}

# reserved wallets are changed by the desk only, and nobody changes a card while the books are closed
may if {
	input.method == "PUT"
	["wallets", wallet, "card"] = input.path
	wallet != ""
	"cards:write" in input.caller.scopes
	may_change(wallet)
	not books_closed
}

# what cannot be undone needs a token that was made just now, and a user, if there is one, with two factors
may if {
	input.method == "DELETE"
	["wallets", wallet] = input.path
	wallet != ""
	"cards:admin" in input.caller.scopes
	input.time - input.claims.iat <= 30
	two_factors
	not books_closed
}

two_factors if input.user == null

two_factors if "mfa" in input.user.amr

may_change(wallet) if not startswith(wallet, "reserved-")

may_change(wallet) if {
	startswith(wallet, "reserved-")
	input.caller.issuer == "https://desk.example.com"
}

# 02:00 to 02:05 UTC
books_closed if {
	input.time % 86400 >= 7200
	input.time % 86400 < 7500
}
