-- DEFER: store one task until it is due, if there is a leader to fire it.
-- KEYS  1 due  2 by-task  3 fired  4 news  5 news-seq  6 schema  7 cancelled  8 seen  9 leader  10 entry  11 templates
--       12 template-dues
-- ARGV  1 '' or, for a repeated call, how many ms ago the first was begun  2 id  3 mid  4 due ms  5 task id  6 the record to store, after its third line  7 grace ms ('' = ask for no leader)
--       8 schema version  9 news kept  10 id of the template  11 the template
-- reply {now ms, status}: 'put' | 'leaderless' (nobody leads, and nobody was seen within the grace) | 'taken' (the id is another task's)
--       | 'fired', 'cancelled' (what the other call became, whose answer was lost)
-- A repeated call brings the same id and mid and says so; whatever the first one did is done once. The first may also come after it,
-- late; so what the repeated call finds leaderless, and lets Celery publish, counts as fired.
-- SET comes first: a full memory refuses it, and then nothing has been written.
local due, by_task, fired, news, news_seq, schema_key, cancelled, seen, leader, entry, templates, template_dues = unpack(KEYS)
local begun_ago, id, mid, due_ms, task, rest, grace, schema, news_kept, template_id, template = unpack(ARGV)
begun_ago = tonumber(begun_ago)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now)

local holder = string.match(redis.call('GETRANGE', entry, 0, 300), '^%d+\n([^\n]*)\n')
if holder == mid then return {now_text, 'put'} end
if holder then return {now_text, 'taken'} end
if redis.call('ZSCORE', fired, mid) then return {now_text, 'fired'} end
if begun_ago then
  local stopped = redis.call('ZSCORE', cancelled, task)
  if stopped and now - tonumber(stopped) <= begun_ago then return {now_text, 'cancelled'} end
end
if grace ~= '' and redis.call('EXISTS', leader) == 0 then
  local last = tonumber(redis.call('GET', seen) or '')
  if not last or now - last > tonumber(grace) then
    if begun_ago then redis.pcall('ZADD', fired, now_text, mid) end
    return {now_text, 'leaderless'}
  end
end

redis.call('SET', entry, '1\n' .. mid .. '\n' .. now_text .. '\n' .. rest)
redis.call('HSETNX', templates, template_id, template)
redis.call('ZADD', template_dues, 'GT', due_ms, template_id)
redis.call('ZADD', due, due_ms, id)
local listed = redis.call('HGET', by_task, task)
redis.call('HSET', by_task, task, listed and listed .. ' ' .. id or id)
redis.call('ZREM', cancelled, task)
if tonumber(redis.call('GET', schema_key) or '0') < tonumber(schema) then redis.call('SET', schema_key, schema) end
local number = redis.call('INCR', news_seq)
redis.call('XADD', news, 'MAXLEN', '~', news_kept, '*', 'n', number, 'kind', 'entries', 'what', id .. ':' .. due_ms)
return {now_text, 'put'}
