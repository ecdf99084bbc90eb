-- ENTER: tell a producer whether its message for a fair queue may go straight on; if not, let it wait in its lane.
-- KEYS  1 by-task  2 fired  3 news  4 news-seq  5 schema  6 cancelled  7 seen  8 leader  9 entry  10 templates  11 template-dues  12 lanes
--       13 room of the queue  14 admitted of the queue  15 … 17 its lanes, high first
-- ARGV  1 '' or, for a repeated call, how many ms ago the first was begun  2 id  3 mid  4 task id  5 the record to store, after its third line
--       6 lease ms  7 schema version  8 news kept  9 id of the template  10 the template  11 queue  12 lane  13 number of the lane, from 1
--       14 admitted kept ms
-- reply {now ms, status}: 'straight' (nothing is stored: publish it) | 'waiting' | 'leaderless' (nobody has led for a lease: publish it)
--       | 'taken' (the id is another task's) | 'fired', 'cancelled' (what the other call became, whose answer was lost)
-- A repeated call brings the same id and mid and says so; a message is stored once, whatever became of the first answer. What it lets past
-- its lane counts as fired: the first call may come after it, late, and must not store what has been published.
-- SET comes first: a full memory refuses it, and then nothing has been written; nor has it when what stands in the place of the lane is none.
-- The first to wait wakes the leader. The minutes of admitted before the last hour are forgotten as a new one begins.
-- uses now, by_task, news, admitted, leaderless, arrival
local by_task, fired, news, news_seq, schema_key, cancelled, seen, leader, entry, templates, template_dues, lanes, room, admitted = unpack(KEYS, 1, 14)
local begun_ago, id, mid, task, rest, lease, schema, news_kept, template_id, template, queue, lane, number, admitted_kept = unpack(ARGV)

local found = found_before(entry, fired, mid)
if found then return {now_text, found == 'own' and 'waiting' or found} end
if cancelled_since(cancelled, task, tonumber(begun_ago)) then return {now_text, 'cancelled'} end
if leaderless(leader, seen, lease) then return let_past(fired, mid, entry, begun_ago, 'leaderless') end

local empty = redis.call('EXISTS', unpack(KEYS, 15, 17)) == 0
if empty and tonumber(redis.call('GET', room) or '0') > 0 then
  redis.call('DECR', room)
  count_admitted(admitted, lane, 1, admitted_kept)
  return let_past(fired, mid, entry, begun_ago, 'straight')
end

local lane_key = KEYS[14 + tonumber(number)]
local kind = redis.call('TYPE', lane_key).ok
if kind ~= 'none' and kind ~= 'zset' then return redis.error_reply('WRONGTYPE the lane ' .. lane .. ' of ' .. queue .. ' holds a ' .. kind) end
store_record(entry, mid, rest)
share_template(templates, template_dues, template_id, template, now_text)
redis.call('ZADD', lane_key, now_text, id)
list_under(by_task, task, id)
redis.call('ZREM', cancelled, task)
if empty then
  redis.call('SADD', lanes, queue)
  raise_schema(schema_key, schema)
  put_in_news(news, news_seq, news_kept, 'lanes', queue)
end
return {now_text, 'waiting'}
