-- PUT ONCE: store one-time tasks.
-- KEYS  1 due  2 names  3 fired  4 news  5 news-seq  6 schema  7 bad  8 held; then the entries
-- ARGV  1 number of entries  2 schema version  3 news kept; then per entry: id, name ('' = none), mid, due ms, record
-- reply {now ms, status per entry}: 'put' | 'raced' (the name belongs to another entry) | 'fired' (this very task has been fired)
-- A task that is held stays held, with its new due time.
-- Writing the same record again changes nothing, so a call whose reply was lost may be repeated for as long as `fired` is kept.
local due, names, fired, news, news_seq, schema_key, bad, held =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local entries, schema, news_kept = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local time = redis.call('TIME')
local statuses, changed = {string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}, {}
for i = 1, entries do
  local at = 3 + 5 * (i - 1)
  local id, name, mid, due_ms, record = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local holder = name ~= '' and redis.call('HGET', names, name)
  if holder and holder ~= id then
    statuses[i + 1] = 'raced'
  elseif redis.call('ZSCORE', fired, mid) then
    statuses[i + 1] = 'fired'
  else
    redis.call('SET', KEYS[8 + i], record)
    if holder then redis.call('HDEL', bad, id) end
    if name ~= '' and not holder then redis.call('HSET', names, name, id) end
    if redis.call('HEXISTS', held, id) == 1 then
      redis.call('HSET', held, id, due_ms)
    else
      redis.call('ZADD', due, due_ms, id)
      changed[#changed + 1] = id .. ':' .. due_ms
    end
    statuses[i + 1] = 'put'
  end
end
if #changed > 0 then
  if tonumber(redis.call('GET', schema_key) or '0') < tonumber(schema) then redis.call('SET', schema_key, schema) end
  local number = redis.call('INCR', news_seq)
  redis.call('XADD', news, 'MAXLEN', '~', news_kept, '*', 'n', number, 'kind', 'entries', 'what', table.concat(changed, ','))
end
return statuses
