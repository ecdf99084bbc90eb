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
local by_task, fired, news, news_seq, schema_key, cancelled, seen, leader, entry, templates, template_dues, lanes, room, admitted = unpack(KEYS, 1, 14)
local begun_ago, id, mid, task, rest, lease, schema, news_kept, template_id, template, queue, lane, number, admitted_kept = unpack(ARGV)
begun_ago = tonumber(begun_ago)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now)

local holder = string.match(redis.call('GETRANGE', entry, 0, 300), '^%d+\n([^\n]*)\n')
if holder == mid then return {now_text, 'waiting'} end
if holder then return {now_text, 'taken'} end
if redis.call('ZSCORE', fired, mid) then return {now_text, 'fired'} end
if begun_ago then
  local stopped = redis.call('ZSCORE', cancelled, task)
  if stopped and now - tonumber(stopped) <= begun_ago then return {now_text, 'cancelled'} end
end
local function let_past(status)
  if begun_ago then redis.pcall('ZADD', fired, now_text, mid) end
  return {now_text, status}
end
if redis.call('EXISTS', leader) == 0 then
  local last = tonumber(redis.call('GET', seen) or '')
  if not last or now - last > tonumber(lease) then return let_past('leaderless') end
end

local empty = redis.call('EXISTS', unpack(KEYS, 15, 17)) == 0
if empty and tonumber(redis.call('GET', room) or '0') > 0 then
  redis.call('DECR', room)
  local minute = math.floor(now / 60000)
  if redis.call('HINCRBY', admitted, minute .. ' ' .. lane, 1) == 1 then
    redis.call('PEXPIRE', admitted, admitted_kept)
    for _, field in ipairs(redis.call('HKEYS', admitted)) do
      if tonumber(string.match(field, '^%d+') or '0') < minute - admitted_kept / 60000 then redis.call('HDEL', admitted, field) end
    end
  end
  return let_past('straight')
end

local kind = redis.call('TYPE', KEYS[14 + tonumber(number)]).ok
if kind ~= 'none' and kind ~= 'zset' then return redis.error_reply('WRONGTYPE the lane ' .. lane .. ' of ' .. queue .. ' holds a ' .. kind) end
redis.call('SET', entry, '1\n' .. mid .. '\n' .. now_text .. '\n' .. rest)
redis.call('HSETNX', templates, template_id, template)
redis.call('ZADD', template_dues, 'GT', now_text, template_id)
redis.call('ZADD', KEYS[14 + tonumber(number)], now_text, id)
local listed = redis.call('HGET', by_task, task)
redis.call('HSET', by_task, task, listed and listed .. ' ' .. id or id)
redis.call('ZREM', cancelled, task)
if empty then
  redis.call('SADD', lanes, queue)
  if tonumber(redis.call('GET', schema_key) or '0') < tonumber(schema) then redis.call('SET', schema_key, schema) end
  local count = redis.call('INCR', news_seq)
  redis.call('XADD', news, 'MAXLEN', '~', news_kept, '*', 'n', count, 'kind', 'lanes', 'what', queue)
end
return {now_text, 'waiting'}
