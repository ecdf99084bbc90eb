-- BOOST: let waiting messages go to another lane of their queue, with the moment kept at which they came.
-- KEYS  1 lane to go to  2, 3 the other lanes of the queue
-- ARGV  ids
-- reply how many were moved. One that has gone on meanwhile, or waits there already, is passed over.
local to, moved = KEYS[1], 0
for _, from in ipairs({KEYS[2], KEYS[3]}) do
  for i, score in ipairs(redis.call('ZMSCORE', from, unpack(ARGV))) do
    if score then
      redis.call('ZADD', to, 'NX', score, ARGV[i])
      redis.call('ZREM', from, ARGV[i])
      moved = moved + 1
    end
  end
end
return moved
