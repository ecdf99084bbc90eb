-- RESEND: send the message of a long run once more that was sent again and that nobody has begun, for it may have been lost on its way.
-- KEYS  1 run  2 running  3 awaited  4 due  5 by-task  6 cancelled  7 news  8 news-seq  9 leader  10 entry  11 templates  12 template-dues
-- ARGV  1 epoch  2 what awaited said of the run: how often its message was sent once more, and since when it is awaited  3 mid  4 id  5 task id
--       6 the record to store, after its third line  7 news kept  8 id of the template  9 the template  10 run kept ms
-- reply {now, 'put'} | {now, 'waits'} (the timetable still has a message) | {now, 'over'} (it has begun, ended, or was cancelled)
--       | {now, 'moved'} (another call did so in between)
-- Of two messages of a run the first begins it. The record stays until the run has ended, so that one that comes after that finds none.
-- uses now, news, by_task, arrival
local run, running, awaited, due, by_task, cancelled, news, news_seq, leader, entry, templates, template_dues = unpack(KEYS)
local epoch, seen, mid, id, task, rest, news_kept, template_id, template, run_kept = unpack(ARGV)
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
local found = redis.call('HGET', awaited, mid)
if found and found ~= seen then return {now_text, 'moved'} end

local times, since = string.match(seen, '^(%d+) (%d+)$')
local state, waits = unpack(redis.call('HMGET', run, 'state', 'waits'))
local cancelled_ms = tonumber(redis.call('ZSCORE', cancelled, task) or '')
local begun = redis.call('HEXISTS', running, mid) == 1
local stopped = cancelled_ms and cancelled_ms >= tonumber(since)
if not found or not state or begun or stopped then
  redis.call('HDEL', awaited, mid)
  if stopped and not begun then redis.call('PEXPIRE', run, run_kept) end
  return {now_text, 'over'}
end
if is_listed(by_task, task, waits) then return {now_text, 'waits'} end

store_record(entry, mid, rest)
share_template(templates, template_dues, template_id, template, now_text)
redis.call('ZADD', due, now_text, id)
list_under(by_task, task, id)
redis.call('HSET', run, 'waits', id)
redis.call('PERSIST', run)
redis.call('HSET', awaited, mid, string.format('%d %s', tonumber(times) + 1, since))
put_in_news(news, news_seq, news_kept, 'entries', id .. ':' .. now_text)
return {now_text, 'put'}
