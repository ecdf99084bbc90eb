-- FINISH RUN: end a run, or only set it free; let go of what it holds, and wake who waits for that.
-- KEYS  1 run  2 lease  3 running  4 done in this period  5 due  6 news  7 news-seq  8 leader  9 checkpoint; then per guard: its key, who waits, its head
-- ARGV  1 by whose right: 'token' | 'owner' (a prefix) | 'last owner' (a prefix, or nobody has it) | 'epoch' (of the leader, with the token and the counter)  2 that token, owner or epoch  3 the token, for 'epoch'
--       4 verb: 'done' | 'failed' | 'cancelled' | 'retried', which are final, or 'free' | 'lost', after which it may be acquired again (and its result stays)  5 mid  6 digest  7 task id
--       8 period  9 done kept ms  10 idempotency kept ms  11 news kept  12 reservation ms  13 the counter last seen, for 'epoch'; then per guard: kind
-- reply {now, 'ok', losses} | {now, 'refused'} (it moved, is another's by now, or has ended) | {now, 'period'}
-- uses now, news, letting_go, remembering
local run, lease, running, done, due, news, news_seq, leader, checkpoint = unpack(KEYS, 1, 9)
local right, value, token, verb, mid, digest, task_id, period, kept, idempotency_kept, news_kept, reservation, counter = unpack(ARGV, 1, 13)
if math.floor(now / tonumber(kept)) ~= tonumber(period) then return {now_text, 'period'} end
local owner, held, result, lost, state = unpack(redis.call('HMGET', run, 'owner', 'token', 'result', 'lost', 'state'))
if right == 'epoch' then
  if redis.call('HGET', leader, 'epoch') ~= value then return redis.error_reply('STALE epoch ' .. value) end
  if held ~= token or redis.call('HGET', running, mid) ~= counter then return {now_text, 'refused'} end
elseif right == 'token' then
  if held ~= value then return {now_text, 'refused'} end
elseif right == 'owner' then
  if string.sub(owner or '', 1, #value) ~= value then return {now_text, 'refused'} end
elseif right == 'last owner' then
  if owner and owner ~= '' and string.sub(owner, 1, #value) ~= value then return {now_text, 'refused'} end
end
local final = verb ~= 'free' and verb ~= 'lost'

local changed = let_go(14, 10, {mid = mid, task_id = task_id, verb = verb, final = final, state = state, result = result,
  due = due, reservation = reservation, idempotency_kept = idempotency_kept})
redis.call('HDEL', running, mid) -- first: it is not refused when memory is full, and what follows a first write is not either
if final then
  remember_end(digest, done, kept)
  forget_run(run, lease, verb == 'done' and checkpoint)
elseif held then
  redis.call('DEL', lease)
  if verb == 'lost' then lost = redis.call('HINCRBY', run, 'lost', 1) end
  redis.call('HSET', run, 'state', state == 'ran' and 'ran' or 'free', 'owner', '', 'token', '')
end
if #changed > 0 then put_in_news(news, news_seq, news_kept, 'entries', table.concat(changed, ',')) end
return {now_text, 'ok', lost or 0}
