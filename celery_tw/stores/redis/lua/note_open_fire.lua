-- NOTE OPEN FIRE: note that tasks of an entry's fires are queued or run.
-- KEYS  1 open fires
-- ARGV  1 'queued' | 'running' | 'kept' (only what runs is moved on)  2 for how many ms they count; then the task ids
-- reply 1. It may be repeated.
-- uses now
local open, state, kept = KEYS[1], ARGV[1], tonumber(ARGV[2])
local fact = (state == 'kept' and 'running' or state) .. ' ' .. string.format('%.0f', now + kept)
for i = 3, #ARGV do
  if state ~= 'kept' or string.find(redis.call('HGET', open, ARGV[i]) or '', '^running ') then redis.call('HSET', open, ARGV[i], fact) end
end
if redis.call('PTTL', open) < kept then redis.call('PEXPIRE', open, ARGV[2]) end
return 1
