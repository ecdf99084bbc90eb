-- CLAIM STATIC: note which process stands behind settings entries, unless a newer one does.
-- KEYS  1 static  2 names
-- ARGV  1 start ms of the process  2 'claim' | 'disclaim', then the entries' names
-- reply how many were noted. 'disclaim' forgets names that no entry has any more.
local static, names, start, verb = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local noted = 0
for i = 3, #ARGV do
  local writer = redis.call('HGET', static, ARGV[i])
  if verb == 'claim' and (not writer or tonumber(writer) < tonumber(start)) then
    redis.call('HSET', static, ARGV[i], start)
    noted = noted + 1
  elseif verb == 'disclaim' and writer and tonumber(writer) <= tonumber(start) and redis.call('HEXISTS', names, ARGV[i]) == 0 then
    redis.call('HDEL', static, ARGV[i])
    noted = noted + 1
  end
end
return noted
