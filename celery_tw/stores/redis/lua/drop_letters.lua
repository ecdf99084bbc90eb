-- DROP LETTERS: remove dead letters for good.
-- KEYS  1 dlq  2 dlq-bytes  3 dlq-counts  4 leader; then the letters
-- ARGV  1 epoch of the leader, or '' for anybody  2 what it is counted as  3 '' or: not those that have died after this ms; then the ids
-- reply {how many were removed, their bytes}; a repeated call finds nothing left to remove
local dlq, bytes, counts, leader = unpack(KEYS, 1, 4)
local epoch, counted, latest = ARGV[1], ARGV[2], tonumber(ARGV[3])
if epoch ~= '' and redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
local dropped, freed = 0, 0
for i = 5, #KEYS do
  local id = ARGV[i - 1]
  local died = tonumber(redis.call('ZSCORE', dlq, id) or '')
  if not (latest and died and died > latest) then
    freed = freed + tonumber(redis.call('HGET', KEYS[i], 'size') or '0')
    redis.call('DEL', KEYS[i])
    dropped = dropped + redis.call('ZREM', dlq, id)
  end
end
if freed > 0 then redis.call('DECRBY', bytes, string.format('%.0f', freed)) end
if dropped > 0 then redis.call('HINCRBY', counts, counted, dropped) end
return {dropped, freed}
