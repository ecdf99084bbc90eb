-- CLAIM UNIQUE: take a key for the task that is about to be sent, unless another has it.
-- KEYS  1 unique
-- ARGV  1 task id  2 kept ms  3 'claim' or 'give back'
-- reply the id of the task that has the key now, '' when it was given back
local by = redis.call('GET', KEYS[1])
if ARGV[3] == 'give back' then
  if by == ARGV[1] then redis.call('DEL', KEYS[1]) end
  return ''
end
if by and by ~= ARGV[1] then return by end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
