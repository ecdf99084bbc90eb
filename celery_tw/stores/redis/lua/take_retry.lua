-- TAKE RETRY: take a token of the retries that the tasks of one name may have, now or as soon as there is one.
-- KEYS  1 budget  2 answer
-- ARGV  1 tokens of a full bucket  2 ms in which an empty one fills  3 answer kept ms  4 ms that the caller can wait, or '' for any
-- reply in how many ms the token is there, 0 for now, -1 when that is longer than the caller can wait: then none is taken
-- The bucket is kept as the moment at which it is full again, and a full one is not kept (the generic cell rate algorithm, ITU-T I.371).
-- The answer is kept for a while, so a repeated call, which brings the same answer key, takes no second token.
-- uses now
local budget, answer = KEYS[1], KEYS[2]
local tokens, fills, answer_kept, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local known = redis.call('GET', answer)
if known then return tonumber(known) end
local full = math.max(tonumber(redis.call('GET', budget) or '0'), now) + fills / tokens
local wait = math.max(0, math.ceil(full - now - fills))
if longest and wait > longest then
  wait = -1
else
  redis.call('SET', budget, string.format('%.3f', full), 'PX', math.ceil(full - now))
end
redis.call('SET', answer, string.format('%.0f', wait), 'PX', answer_kept)
return wait
