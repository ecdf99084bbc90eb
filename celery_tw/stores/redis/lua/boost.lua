-- BOOST: let waiting messages go to another lane of their queue, with the moment kept at which they came.
-- KEYS  1 lane to go to  2, 3 the other lanes of the queue
-- ARGV  ids
-- reply how many of them wait in that lane now. One that has gone on meanwhile is passed over.
local to = KEYS[1]
for _, from in ipairs({KEYS[2], KEYS[3]}) do
  for i, score in ipairs(redis.call('ZMSCORE', from, unpack(ARGV))) do
    if score then
      redis.call('ZADD', to, 'NX', score, ARGV[i])
      redis.call('ZREM', from, ARGV[i])
    end
  end
end
local there = 0
for _, score in ipairs(redis.call('ZMSCORE', to, unpack(ARGV))) do
  if score then there = there + 1 end
end
return there
