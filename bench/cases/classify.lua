-- The demo policy (envoy/demo-policy.yaml) by hand, as one writes it for Envoy's Lua filter: the
-- same decisions and the same headers as ombre's. OWN_HASH is replaced by true or false: with its
-- own hash it buckets users by 32-bit arithmetic, which LuaJIT is best at, and so puts other users
-- into the 20 % than ombre does; else it computes ombre's XXH64.

local ffi = require("ffi")
local bit = require("bit")
local bxor, rol, rshift, tobit = bit.bxor, bit.rol, bit.rshift, bit.tobit
local cast = ffi.cast

local OWN_HASH = @OWN_HASH@
local SHARE = 20000 -- of 100,000 slots

local V1 = { name = "v1", cluster = "demo_v1", api = "v1.0", stage = "prod", build = "bld-9a3f2e1" }
local V2 = { name = "v2", cluster = "demo_v2", api = "v2.0", stage = "canary", build = "bld-b71c004" }
local MAJORS = { [1] = V1, [2] = V2 }

local P1, P2, P3 = 0x9E3779B185EBCA87ULL, 0xC2B2AE3D27D4EB4FULL, 0x165667B19E3779F9ULL
local P4, P5 = 0x85EBCA77C2B2AE63ULL, 0x27D4EB2F165667C5ULL
local u8p, u32p, u64p = ffi.typeof("const uint8_t *"), ffi.typeof("const uint32_t *"), ffi.typeof("const uint64_t *")

local function round(sum, lane) return rol(sum + lane * P2, 31) * P1 end

local function merge(hash, lane) return bxor(hash, round(0ULL, lane)) * P1 + P4 end

local function xxh64(text, seed)
  local bytes, length, at = cast(u8p, text), #text, 0
  local hash
  if length >= 32 then
    local a, b, c, d = seed + P1 + P2, seed + P2, seed, seed - P1
    repeat
      local lanes = cast(u64p, bytes + at)
      a, b, c, d = round(a, lanes[0]), round(b, lanes[1]), round(c, lanes[2]), round(d, lanes[3])
      at = at + 32
    until at + 32 > length
    hash = rol(a, 1) + rol(b, 7) + rol(c, 12) + rol(d, 18)
    hash = merge(merge(merge(merge(hash, a), b), c), d)
  else
    hash = seed + P5
  end
  hash = hash + length
  while at + 8 <= length do
    hash = rol(bxor(hash, round(0ULL, cast(u64p, bytes + at)[0])), 27) * P1 + P4
    at = at + 8
  end
  if at + 4 <= length then
    hash = rol(bxor(hash, cast(u32p, bytes + at)[0] * P1), 23) * P2 + P3
    at = at + 4
  end
  while at < length do
    hash = rol(bxor(hash, bytes[at] * P5), 11) * P1
    at = at + 1
  end
  hash = bxor(hash, rshift(hash, 33)) * P2
  hash = bxor(hash, rshift(hash, 29)) * P3
  return bxor(hash, rshift(hash, 32))
end

local SEED = xxh64("rollout\31shop", 0ULL)

local function slot(unit)
  if not OWN_HASH then
    return tonumber(rshift(rshift(xxh64(unit, SEED), 32) * 100000ULL, 32))
  end
  -- FNV-1a of 32 bits; the multiplication by shifts, since a double holds 53.
  local hash = tobit(0x811C9DC5)
  for at = 1, #unit do
    hash = bxor(hash, unit:byte(at))
    hash = tobit(hash + bit.lshift(hash, 1) + bit.lshift(hash, 4) + bit.lshift(hash, 7) + bit.lshift(hash, 8) + bit.lshift(hash, 24))
  end
  return (hash % 4294967296) % 100000
end

local function version(text)
  local major, minor = text:match("^[vV]?(%d+)%.?(%d*)$")
  local found = MAJORS[tonumber(major)]
  if minor ~= "" and tonumber(minor) ~= 0 then found = nil end
  return found
end

-- The most preferred version that Accept names; true as second result when it names any.
local function accepted(accept)
  if not accept:find("application/vnd.", 1, true) then return nil, false end
  local best, weight, named = nil, 0, false
  for range in accept:gmatch("[^,]+") do
    local asked = range:match("application/vnd%.[^.+;]+%.v(%d+)") or range:match("application/vnd%.[^+;]+%+v(%d+)")
    if asked then
      local q = tonumber(range:match(";%s*q=([%d.]+)")) or 1
      local found = MAJORS[tonumber(asked)]
      named = named or q > 0
      if found and q > weight then best, weight = found, q end
    end
  end
  return best, named
end

local function cookie(cookies, name)
  if not cookies then return nil end
  local at, stop = cookies:find(name .. "=", 1, true)
  while at do
    if at == 1 or cookies:byte(at - 1) == 32 or cookies:byte(at - 1) == 59 then
      return cookies:match("^[^;]*", stop + 1)
    end
    at, stop = cookies:find(name .. "=", stop, true)
  end
end

local function parameter(query, name)
  if query == "" then return nil end
  return ("&" .. query):match("&" .. name .. "=([^&]*)")
end

local function wanted(headers, in_path, query)
  local accept = headers:get("accept")
  if accept then
    local found, named = accepted(accept)
    if named then return found, "accept" end
  end
  if in_path and in_path ~= "" then return version(in_path), "path" end
  local header = headers:get("x-api-version")
  if header and header ~= "" then return version(header), "header" end
  local asked = parameter(query, "version")
  if asked and asked ~= "" then return version(asked), "query" end
end

local function valid(color)
  return color and #color <= 32 and color:find("^[a-z0-9-]+$") and color or nil
end

local function traffic_color(headers, cookies, query, baggage)
  local color = valid(headers:get("x-envoy-traffic-color"))
  if color then return color, "header" end
  color = baggage and valid(("," .. baggage):match(",%s*traffic%-color=([^,;%s]*)"))
  if color then return color, "baggage" end
  color = valid(cookie(cookies, "traffic_color")) or valid(parameter(query, "color"))
  if color then return color, "other" end
  return "prod"
end

local function mint()
  return string.format("%08x%08x%08x%08x", math.random(0, 0xffffffff), math.random(0, 0xffffffff), math.random(0, 0xffffffff), math.random(0, 0xffffffff))
end

local function usable(unit)
  return unit and #unit >= 1 and #unit <= 256 and unit or nil
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local target = headers:get(":path")
  local question = target:find("?", 1, true)
  local path, query = target, ""
  if question then path, query = target:sub(1, question - 1), target:sub(question + 1) end

  local route, in_path
  if path:sub(1, 5) == "/api/" then
    route, in_path = "shop-api", path:match("^[^/]*", 6)
  elseif path == "/shop" or path:sub(1, 6) == "/shop/" then
    route = "shop-pages"
  else
    return
  end

  local cookies, baggage = headers:get("cookie"), headers:get("baggage")
  local color, source = traffic_color(headers, cookies, query, baggage)
  local serving, reason = wanted(headers, in_path, query)
  local minted
  if reason then
    if not serving then serving, reason = V1, "unknown_version" end
  elseif color == "canary-v2" then
    serving, reason = V2, "color"
  else
    local unit = usable(headers:get("x-user-id")) or usable(cookie(cookies, "ombre_uid"))
    if not unit then
      minted = mint()
      unit = minted
    end
    if slot(unit) < SHARE then serving, reason = V2, "rollout" else serving, reason = V1, "default" end
  end

  headers:replace("x-ombre-cluster", serving.cluster)
  headers:replace("x-ombre-decision", "route=" .. route .. ";version=" .. serving.name .. ";reason=" .. reason)
  if source ~= "header" then headers:replace("x-envoy-traffic-color", color) end
  headers:replace("x-traffic-tag", color)
  if source and source ~= "baggage" then
    headers:replace("baggage", "traffic-color=" .. color .. (baggage and "," .. baggage or ""))
  end
  headers:replace("x-api-version", serving.api)
  headers:replace("x-env-stage", serving.stage)
  headers:replace("x-build-id", serving.build)
  if minted then
    headers:replace("x-ombre-set-cookie", "ombre_uid=" .. minted .. "; Max-Age=31536000; Path=/; HttpOnly; SameSite=Lax")
  end
end
