-- MAKE ROOM: tell producers how many messages may go straight on to fair queues, and hear how much waits in their lanes.
-- KEYS  1 leader  2 lanes; then per queue: its room, its lanes, high first
-- ARGV  1 epoch  2 room kept ms; then per queue: name, room, 'fair' | 'former' (not fair any more: forgotten when nothing waits)
-- reply per queue: the room that was left of the last, how many wait in each lane, high first
-- Whoever waits goes first: with anything in a lane there is no room for others.
local leader, lanes = KEYS[1], KEYS[2]
if redis.call('HGET', leader, 'epoch') ~= ARGV[1] then return redis.error_reply('STALE epoch ' .. ARGV[1]) end
local reply = {}
for i = 1, (#KEYS - 2) / 4 do
  local room_key, queue, room, standing = KEYS[4 * i - 1], ARGV[3 * i], ARGV[3 * i + 1], ARGV[3 * i + 2]
  local waiting = 0
  reply[#reply + 1] = tonumber(redis.call('GET', room_key) or '0')
  for number = 0, 2 do
    local count = redis.call('ZCARD', KEYS[4 * i + number])
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
