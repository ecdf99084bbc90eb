-- ACQUIRE: become leader of the shard, or learn who leads it.
-- KEYS  1 leader  2 epoch  3 schema  4 seen
-- ARGV  1 owner  2 lease ms  3 schema version known to the caller  4 epoch and 5 counter that stood still ('' = take no living lease)
-- reply {'led', epoch, now ms} | {'held', owner, epoch, counter, lease left ms, now ms} | {'newer', schema, now ms}
-- A caller that leads already (the reply of its first call was lost) begins a new term.
-- DEL comes first: it is not refused when memory is full, and what follows a first write is not either.
-- Epochs only grow: max(stored + 1, Redis ms), also when the stored one was lost with the data.
-- uses now
local leader, epoch_key, schema_key, seen = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owner, lease, known_schema, still_epoch, still_counter = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local schema = redis.call('GET', schema_key)
if schema and tonumber(schema) > tonumber(known_schema) then return {'newer', schema, now_text} end

local held = redis.call('HMGET', leader, 'owner', 'epoch', 'counter')
if held[1] and held[1] ~= owner and not (held[2] == still_epoch and held[3] == still_counter) then
  return {'held', held[1], held[2], held[3], redis.call('PTTL', leader), now_text}
end

local epoch = string.format('%.0f', math.max(tonumber(redis.call('GET', epoch_key) or '0') + 1, now))
redis.call('DEL', leader)
redis.call('SET', epoch_key, epoch)
redis.call('HSET', leader, 'owner', owner, 'epoch', epoch, 'counter', '1', 'since', now_text)
redis.call('PEXPIRE', leader, lease)
redis.call('SET', seen, now_text)
return {'led', epoch, now_text}
