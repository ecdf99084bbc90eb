-- PUT ONCE: store one-time tasks.
-- KEYS  1 due  2 names  3 fired  4 news  5 news-seq  6 schema  7 bad  8 held  9 templates  10 template-dues; then the entries
-- ARGV  1 number of entries  2 schema version  3 news kept  4 number of templates; then per template: id, text, last due ms of its tasks;
--       then per entry: id, name ('' = none), mid, due ms, record as stored
-- reply {now ms, status per entry}: 'put' | 'raced' (the name belongs to another entry) | 'fired' (this very task has been fired)
-- A task that is held stays held, with its new due time.
-- Writing the same record again changes nothing, so a call whose reply was lost may be repeated for as long as `fired` is kept.
-- uses now, news
local due, names, fired, news, news_seq, schema_key, bad, held, templates, template_dues = unpack(KEYS, 1, 10)
local entries, schema, news_kept, kinds = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])
local statuses, changed = {now_text}, {}
for i = 1, kinds do
  local at = 4 + 3 * (i - 1)
  redis.call('HSETNX', templates, ARGV[at + 1], ARGV[at + 2])
  redis.call('ZADD', template_dues, 'GT', ARGV[at + 3], ARGV[at + 1])
end
for i = 1, entries do
  local at = 4 + 3 * kinds + 5 * (i - 1)
  local id, name, mid, due_ms, record = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local holder = name ~= '' and redis.call('HGET', names, name)
  if holder and holder ~= id then
    statuses[i + 1] = 'raced'
  elseif redis.call('ZSCORE', fired, mid) then
    statuses[i + 1] = 'fired'
  else
    redis.call('SET', KEYS[10 + i], record)
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
  put_in_news(news, news_seq, news_kept, 'entries', table.concat(changed, ','))
end
return statuses
