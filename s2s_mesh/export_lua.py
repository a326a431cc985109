"""The Lua program of an exported Envoy configuration: token and path, read as strictly as by us.

Envoy's `jwt_authn` verifies the signature and finds the issuer. It does not look at `typ`, reads `aud`
without scheme and trailing slash, knows no life from `iat`, takes a float for a time, and finds a token in
the middle of a field. So this runs before it and lets one reading of a token through (`jws.py`,
`strict_json.py`, `claims.py`, `bearer.py`), and one reading of a path (`routes.external_path`), which the
RBAC filter matches. Which values `aud`, `sub` and
`client_id` have, and who may do what, is left to the RBAC filter.
"""

from __future__ import annotations

PROGRAM = r"""
local NULL, FLOAT, MAX_INT = {}, {}, 1e16
local CLOSED = {}  -- thrown where the text is not strict JSON

local function is_utf8(text)
  local at, size = 1, #text
  while at <= size do
    local first = text:byte(at)
    local more, low, high = 0, 0x80, 0xBF
    if first >= 0x80 then
      if first < 0xC2 or first > 0xF4 then return false end
      more = first < 0xE0 and 1 or first < 0xF0 and 2 or 3
      if first == 0xE0 then low = 0xA0 elseif first == 0xF0 then low = 0x90 end
      if first == 0xED then high = 0x9F elseif first == 0xF4 then high = 0x8F end
    end
    for step = 1, more do
      local byte = text:byte(at + step)
      if not byte or byte < low or byte > high then return false end
      low, high = 0x80, 0xBF
    end
    at = at + 1 + more
  end
  return true
end

local VALUES = {}
for value = 0, 63 do
  VALUES[("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"):byte(value + 1)] = value
end

-- base64url in its one canonical spelling (RFC 4648 section 3.5), or nil
local function b64url_decode(text)
  local out, bits, held = {}, 0, 0
  for at = 1, #text do
    local value = VALUES[text:byte(at)]
    if not value then return nil end
    bits, held = bits + 6, held * 64 + value
    if bits >= 8 then
      bits = bits - 8
      local octet = math.floor(held / 2 ^ bits)
      out[#out + 1] = string.char(octet)
      held = held - octet * 2 ^ bits
    end
  end
  if bits >= 6 or held ~= 0 then return nil end
  return table.concat(out)
end

local function utf8_of(code)
  if code < 0x80 then return string.char(code) end
  if code < 0x800 then return string.char(0xC0 + math.floor(code / 0x40), 0x80 + code % 0x40) end
  if code < 0x10000 then
    return string.char(0xE0 + math.floor(code / 0x1000), 0x80 + math.floor(code / 0x40) % 0x40,
                       0x80 + code % 0x40)
  end
  return string.char(0xF0 + math.floor(code / 0x40000), 0x80 + math.floor(code / 0x1000) % 0x40,
                     0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
end

local ESCAPES = {['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t"}

local function read_string(text, at)  -- at: behind the opening quote
  local parts = {}
  while true do
    local stop = text:find('[%c"\\]', at)
    if not stop then error(CLOSED) end
    parts[#parts + 1] = text:sub(at, stop - 1)
    local mark = text:sub(stop, stop)
    if mark == '"' then return table.concat(parts), stop + 1 end
    if mark == "\127" then
      parts[#parts + 1], at = mark, stop + 1
    elseif mark ~= "\\" then
      error(CLOSED)
    else
      local hex = text:match("^u(%x%x%x%x)", stop + 1)
      if hex then
        local code = tonumber(hex, 16)
        at = stop + 6
        if code >= 0xD800 and code <= 0xDFFF then
          local low = tonumber(text:match("^\\u(%x%x%x%x)", at) or "0", 16)
          if code > 0xDBFF or low < 0xDC00 or low > 0xDFFF then error(CLOSED) end
          code, at = 0x10000 + (code - 0xD800) * 0x400 + low - 0xDC00, at + 6
        end
        parts[#parts + 1] = utf8_of(code)
      else
        local meant = ESCAPES[text:sub(stop + 1, stop + 1)]
        if not meant then error(CLOSED) end
        parts[#parts + 1], at = meant, stop + 2
      end
    end
  end
end

local function read_number(text, at)
  local digits = text:match("^-?%d+", at)
  if not digits or digits:find("^-?0%d") then error(CLOSED) end
  at = at + #digits
  local fraction = text:match("^%.%d+", at) or ""
  local exponent = text:match("^[eE][+-]?%d+", at + #fraction) or ""
  local value = tonumber(digits .. fraction .. exponent)
  if fraction .. exponent == "" then
    if value <= -MAX_INT or value >= MAX_INT then error(CLOSED) end
    return value, at
  end
  if value == math.huge or value == -math.huge or (value == 0 and 1 / value < 0) then error(CLOSED) end
  return FLOAT, at + #fraction + #exponent
end

local read_value

-- the members of an object by name, or the items of an array by number; `size` is how many
local function read_members(text, at, depth, close, keyed)
  if depth > 8 then error(CLOSED) end
  local found = {size = 0, keyed = keyed, by = {}}
  at = text:match("^[ \t\r\n]*()", at)
  if text:sub(at, at) == close then return found, at + 1 end
  while true do
    local name = found.size + 1
    if keyed then
      at = text:match('^[ \t\r\n]*"()', at)
      if not at then error(CLOSED) end
      name, at = read_string(text, at)
      at = text:match("^[ \t\r\n]*:()", at)
      if not at or found.by[name] ~= nil then error(CLOSED) end
    end
    found.by[name], at = read_value(text, at, depth)
    found.size = found.size + 1
    local mark
    mark, at = text:match("^[ \t\r\n]*([,%]}])()", at)
    if mark == close then return found, at end
    if mark ~= "," then error(CLOSED) end
  end
end

local WORDS = {["true"] = true, ["false"] = false, null = NULL}

function read_value(text, at, depth)
  at = text:match("^[ \t\r\n]*()", at)
  local mark = text:sub(at, at)
  if mark == '"' then return read_string(text, at + 1) end
  if mark == "{" then return read_members(text, at + 1, depth + 1, "}", true) end
  if mark == "[" then return read_members(text, at + 1, depth + 1, "]", false) end
  local word = text:match("^%l+", at)
  if word then
    if WORDS[word] == nil then error(CLOSED) end
    return WORDS[word], at + #word
  end
  return read_number(text, at)
end

local function read_object(text)
  if not is_utf8(text) then error(CLOSED) end
  local value, at = read_value(text, 1, 0)
  if type(value) ~= "table" or not value.keyed or text:find("[^ \t\r\n]", at) then error(CLOSED) end
  return value
end

local function decode_object(segment)
  local text = b64url_decode(segment)
  if not text then return nil end
  local good, value = pcall(read_object, text)
  return good and value or nil, #text
end

local function is_whole(value) return type(value) == "number" and value > 0 and value < 2 ^ 53 end

local function is_scope(value)
  if type(value) ~= "string" then return false end
  local count = 0
  for word in (value .. " "):gmatch("([^ ]*) ") do
    count = count + 1
    if word == "" or word:find('[%c"\\\128-\255]') then return false end
  end
  return count <= 100
end

local function percent_decode(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- by algorithm; jwt_authn halves what it gets, so an octet more would do. BoringSSL knows how long RSA's are
local SIGNATURES = {ES256 = 64, ES384 = 96}

-- whether there is a second credential in the query (RFC 6750 section 2.3)
local function holds_token(query)
  if not query:find("%", 1, true) and not query:find("access_token=", 1, true) then return false end
  for pair in query:gmatch("[^&]+") do
    if percent_decode(pair:match("^[^=]*")) == "access_token" then return true end
  end
  return false
end

local function token_is_good(token, now)
  if #token > 8192 then return false end
  local first, second, third = token:match("^([^.]+)%.([^.]+)%.([^.]+)$")
  local signature = first and b64url_decode(third)
  if not signature then return false end
  local header, length = decode_object(first)
  local payload = decode_object(second)
  if not header or length > 2048 or not payload then return false end
  local head, claims = header.by, payload.by
  if header.size ~= 3 or type(head.typ) ~= "string" then return false end
  local kid = head.kid
  if type(kid) ~= "string" or #kid > 200 or not kid:find("^[%w._~+/=:-]+$") then return false end
  local rules = type(claims.iss) == "string" and ISSUERS[claims.iss]
  if not rules or not rules.algorithms[head.alg] then return false end
  if #signature ~= (SIGNATURES[head.alg] or #signature) then return false end
  if not rules.types[(head.typ:lower():gsub("^application/", ""))] then return false end
  local aud = claims.aud
  if type(aud) == "table" and (aud.keyed or aud.size ~= 1) then return false end
  local jti = claims.jti
  if type(jti) ~= "string" or jti == "" or select(2, jti:gsub("[^\128-\191]", "")) > 256 then return false end
  if claims.scope ~= nil and not is_scope(claims.scope) then return false end
  local iat, exp, nbf = claims.iat, claims.exp, claims.nbf
  if nbf == nil then nbf = iat end
  if not is_whole(iat) or not is_whole(exp) or not is_whole(nbf) then return false end
  if iat >= exp or exp - iat > rules.life then return false end
  return exp > now - rules.leeway and math.max(iat, nbf) <= now + rules.leeway
end

-- the path as every router reads it, or nil
local function external_path(raw)
  if raw:sub(1, 1) ~= "/" or raw:find("//", 1, true) or raw:find("[^!-~]") then return nil end
  if raw:find("[\\;?#]") or raw:gsub("%%%x%x", ""):find("%", 1, true) then return nil end
  for octet in raw:gmatch("%%%x%x") do
    if percent_decode(octet):find("[%c/\\;]") then return nil end
  end
  local path = percent_decode(raw)
  if not is_utf8(path) or path:find("\194[\128-\159]") then return nil end
  for segment in path:gmatch("[^/]+") do
    if segment == "." or segment == ".." then return nil end
  end
  return path
end

local function refuse(handle, status, error)
  local fields = {[":status"] = status, ["cache-control"] = "no-store"}
  if status == "401" then fields["www-authenticate"] = 'Bearer realm="' .. AUDIENCE .. '"' .. error end
  handle:respond(fields, "")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local raw, _, query = headers:get(":path"):match("^([^?]*)(%??)(.*)$")
  local field = headers:get("authorization")
  if not field then return refuse(handle, "401", "") end
  local scheme, token = field:match("^(%a+) (.*)$")
  if not scheme or scheme:lower() ~= "bearer" then return refuse(handle, "401", "") end
  if holds_token(query) then return refuse(handle, "400", "") end
  -- two fields come as one with a comma, which no token has
  if not token_is_good(token, handle:timestamp() / 1000) then
    return refuse(handle, "401", ', error="invalid_token", error_description="The access token is invalid"')
  end
  -- jwt_authn knows this spelling only
  headers:replace("authorization", "Bearer " .. token)
  local path = ROUTED and external_path(raw) or not ROUTED and "any"
  if not path then return refuse(handle, "403", "") end
  -- Envoy lets a request go on where a program ends by an error; RBAC lets none pass without this
  handle:streamInfo():dynamicMetadata():set("s2s_mesh", "path", path)
end
"""
