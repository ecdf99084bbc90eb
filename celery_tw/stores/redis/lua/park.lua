-- PARK: let a task wait in the timetable under its own mid, until what it needs is free or it is time to look again.
-- KEYS  1 due  2 by-task  3 news  4 news-seq  5 schema  6 entry  7 what it waits for  8 who waits for that  9 its head  10 templates
--       11 template-dues  12 run  13 running  14 awaited
-- ARGV  1 id  2 mid  3 task id  4 the record to store, after its third line  5 delay ms  6 kind of guard, '' for none  7 its argument  8 schema version  9 news kept  10 wait kept ms
--       11 id of the template  12 the template  13 run kept ms
-- reply {now, 'put' (once, also when several messages of a long run come to be parked) | 'taken' (the id is another task's)}
-- What has become free since the task was refused is seen here: then it is due at once.
-- The timetable has the message of a long run now, and no process has the run: so none can fall silent, and its record may expire. It is awaited.
-- uses now, news, by_task, arrival
local due, by_task, news, news_seq, schema_key, entry, key, wait = unpack(KEYS, 1, 8)
local templates, template_dues, run, running, awaited = unpack(KEYS, 10, 14)
local id, mid, task, rest, delay_ms, kind, argument, schema, news_kept, wait_kept, template_id, template, run_kept = unpack(ARGV)
local holder = string.match(redis.call('GETRANGE', entry, 0, 300), '^%d+\n([^\n]*)\n')
if holder == mid then return {now_text, 'put'} end
if holder then return {now_text, 'taken'} end

local owner, envelope, waits = unpack(redis.call('HMGET', run, 'owner', 'envelope', 'waits'))
local nobodys = (owner or '') == ''
if nobodys and is_listed(by_task, task, waits) then
  redis.call('HDEL', running, mid)
  return {now_text, 'put'}
end

local function free()
  if kind == 'lock' then
    local by = redis.call('GET', key)
    return not by or by == mid
  elseif kind == 'sem' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now_text)
    return redis.call('ZSCORE', key, mid) or redis.call('ZCARD', key) < tonumber(argument)
  elseif kind == 'order' then
    return redis.call('ZRANGE', key, 0, 0)[1] == mid
  elseif kind == 'idem' then
    local by, result = unpack(redis.call('HMGET', key, 'mid', 'result'))
    return result or not by or by == mid
  end
end

local due_ms = now + tonumber(delay_ms)
if kind ~= '' then
  if free() then
    due_ms = now
  else
    local turn = kind == 'order' and redis.call('ZSCORE', key, mid) or now_text
    redis.call('ZADD', wait, turn, id .. ':' .. mid)
    redis.call('PEXPIRE', wait, wait_kept)
  end
end
local due_text = string.format('%.0f', due_ms)
store_record(entry, mid, rest)
share_template(templates, template_dues, template_id, template, due_text)
redis.call('ZADD', due, due_text, id)
list_under(by_task, task, id)
if nobodys then
  redis.call('HDEL', running, mid)
  redis.call('PEXPIRE', run, run_kept)
end
if nobodys and envelope then
  redis.call('HSET', run, 'waits', id)
  redis.call('HSET', awaited, mid, (string.match(redis.call('HGET', awaited, mid) or '', '^%d+') or '0') .. ' ' .. now_text)
end
raise_schema(schema_key, schema)
put_in_news(news, news_seq, news_kept, 'entries', id .. ':' .. due_text)
return {now_text, 'put'}
