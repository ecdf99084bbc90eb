-- LEADERLESS: leaderless tells whether nobody leads, and nobody was seen to within *patience* ms. Needs now.
local function leaderless(leader, seen, patience)
  if redis.call('EXISTS', leader) == 1 then return false end
  local last = tonumber(redis.call('GET', seen) or '')
  return not last or now - last > tonumber(patience)
end
