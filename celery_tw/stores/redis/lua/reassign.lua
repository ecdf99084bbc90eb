-- REASSIGN: start a long run again elsewhere, under the same mid: its stored message becomes due in the timetable, its lease ends.
-- KEYS  1 run  2 lease  3 running  4 due  5 by-task  6 news  7 news-seq  8 leader  9 entry  10 templates  11 template-dues  12 awaited
-- ARGV  1 by whose right: 'token' | 'owner' (a prefix) | 'epoch'  2 that token, owner or epoch  3 token and 4 counter last seen, for 'epoch'
--       5 'lost' (counts against the run) | 'yielded'  6 most losses  7 mid  8 id  9 task id  10 the record to store, after its third line  11 delay ms  12 news kept  13 run kept ms  14 id of the template  15 the template
-- reply {now, 'put', losses} | {now, 'refused'} (it moved, is another's, or has ended) | {now, 'enough', losses} (nothing is done: it is to fail)
-- Its locks stay its own: they are held in the name of the mid, so the successor waits for none of them.
-- The timetable has the message now, so the record may expire; nobody might come for it any more. Until somebody does, the run is awaited.
-- uses now, news, by_task, arrival
local run, lease, running, due, by_task, news, news_seq, leader, entry, templates, template_dues, awaited = unpack(KEYS)
local right, value, token, counter, verb, most, mid, id, task, rest, delay_ms, news_kept, run_kept, template_id, template = unpack(ARGV)
local owner, held, lost, state = unpack(redis.call('HMGET', run, 'owner', 'token', 'lost', 'state'))
if not state then return {now_text, 'refused'} end
if right == 'epoch' then
  if redis.call('HGET', leader, 'epoch') ~= value then return redis.error_reply('STALE epoch ' .. value) end
  if held ~= token or redis.call('HGET', running, mid) ~= counter then return {now_text, 'refused'} end
elseif right == 'token' then
  if held ~= value then return {now_text, 'refused'} end
elseif string.sub(owner or '', 1, #value) ~= value then
  return {now_text, 'refused'}
end
lost = tonumber(lost or '0')
if verb == 'lost' and lost >= tonumber(most) then return {now_text, 'enough', lost} end
if verb == 'lost' then lost = redis.call('HINCRBY', run, 'lost', 1) end

local due_text = string.format('%.0f', now + tonumber(delay_ms))
store_record(entry, mid, rest)
share_template(templates, template_dues, template_id, template, due_text)
redis.call('ZADD', due, due_text, id)
list_under(by_task, task, id)
redis.call('HSET', run, 'state', state == 'ran' and 'ran' or verb, 'owner', '', 'token', '', 'waits', id)
redis.call('PEXPIRE', run, run_kept)
redis.call('DEL', lease)
redis.call('HDEL', running, mid)
redis.call('HSET', awaited, mid, '0 ' .. now_text)
put_in_news(news, news_seq, news_kept, 'entries', id .. ':' .. due_text)
return {now_text, 'put', lost}
