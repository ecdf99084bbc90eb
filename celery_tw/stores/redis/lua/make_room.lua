-- MAKE ROOM: tell producers how many messages may go straight on to fair queues, and hear how much waits in their lanes.
-- KEYS  1 leader  2 lanes; then per queue: its room, its lanes, high first
-- ARGV  1 epoch  2 lease ms, for which a room is kept too; then per queue: name, room, 'fair' | 'former' (not fair any more: forgotten when nothing waits)
-- reply per queue: the room that was left of the last, how many wait in each lane, high first
-- Whoever waits goes first: with anything in a lane there is no room for others.
-- What stands in the place of a lane and is none counts as empty, and harms no other queue.
-- PEXPIRE comes first: it is not refused when memory is full, and what follows a first write is not either. Else what fills it would stay.
local leader, lanes = KEYS[1], KEYS[2]
if redis.call('HGET', leader, 'epoch') ~= ARGV[1] then return redis.error_reply('STALE epoch ' .. ARGV[1]) end
redis.call('PEXPIRE', leader, ARGV[2])
local reply = {}
for i = 1, (#KEYS - 2) / 4 do
  local room_key, queue, room, standing = KEYS[4 * i - 1], ARGV[3 * i], ARGV[3 * i + 1], ARGV[3 * i + 2]
  local waiting = 0
  reply[#reply + 1] = tonumber(redis.call('GET', room_key) or '0')
  for number = 0, 2 do
    local count = redis.pcall('ZCARD', KEYS[4 * i + number])
    if type(count) == 'table' then count = 0 end
    waiting = waiting + count
    reply[#reply + 1] = count
  end
  if standing == 'fair' then
    redis.call('SET', room_key, waiting == 0 and room or '0', 'PX', ARGV[2])
  elseif waiting == 0 then
    redis.call('SREM', lanes, queue)
  end
end
return reply
