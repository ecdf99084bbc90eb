-- FINISH RUN: end a run, or only set it free; let go of what it holds, and wake who waits for that.
-- KEYS  1 run  2 lease  3 running  4 done in this period  5 due  6 news  7 news-seq  8 leader  9 checkpoint; then per guard: its key, who waits, its head
-- ARGV  1 by whose right: 'token' | 'owner' (a prefix) | 'last owner' (a prefix, or nobody has it) | 'epoch' (of the leader, with the token and the counter)  2 that token, owner or epoch  3 the token, for 'epoch'
--       4 verb: 'done' | 'failed' | 'cancelled' | 'retried', which are final, or 'free' | 'lost', after which it may be acquired again (and its result stays)  5 mid  6 digest  7 task id
--       8 period  9 done kept ms  10 idempotency kept ms  11 news kept  12 reservation ms  13 the counter last seen, for 'epoch'; then per guard: kind
-- reply {now, 'ok', losses} | {now, 'refused'} (it moved, is another's by now, or has ended) | {now, 'period'}
-- The next in line is told by moving its entry in the timetable to now, and what it waits for is kept for it for the reservation.
local run, lease, running, done, due, news, news_seq, leader, checkpoint = unpack(KEYS, 1, 9)
local right, value, token, verb, mid, digest, task_id, period, kept, idempotency_kept, news_kept, reservation, counter = unpack(ARGV, 1, 13)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now)
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

local changed = {}
local function next_in_line(guard, only)
  for _ = 1, 100 do
    local first = redis.call('ZRANGE', guard.wait, 0, 0)[1]
    if not first then return nil end
    local id, waiter = string.match(first, '^(%d+):(.*)$')
    if only and waiter ~= only then return nil end
    redis.call('ZREM', guard.wait, first)
    local due_ms = redis.call('ZSCORE', due, id)
    if due_ms then
      if tonumber(due_ms) > now then
        redis.call('ZADD', due, now_text, id)
        changed[#changed + 1] = id .. ':' .. now_text
      end
      return waiter
    end
  end
end

local release = {}
function release.lock(guard)
  if redis.call('GET', guard.key) ~= mid then return end
  redis.call('DEL', guard.key)
  local waiter = next_in_line(guard)
  if waiter then redis.call('SET', guard.key, waiter, 'PX', reservation) end
end
function release.sem(guard)
  if redis.call('ZREM', guard.key, mid) == 0 then return end
  local waiter = next_in_line(guard)
  if waiter then redis.call('ZADD', guard.key, string.format('%.0f', now + tonumber(reservation)), waiter) end
end
function release.order(guard)
  if final then
    redis.call('ZREM', guard.key, mid)
    local head = redis.call('ZRANGE', guard.key, 0, 0)[1]
    if head then next_in_line(guard, head) end
  elseif redis.call('HGET', guard.head, 'mid') == mid then
    redis.call('HSET', guard.head, 'since', now_text, 'started', '')
  end
end
function release.idem(guard)
  if redis.call('HGET', guard.key, 'mid') ~= mid then return end
  local ran = result and string.sub(result, 1, 8) ~= '\0retries' and (verb == 'done' or state == 'ran' and not final)
  if ran then
    redis.call('HSET', guard.key, 'result', result)
    redis.call('PEXPIRE', guard.key, idempotency_kept)
    while next_in_line(guard) do end
  elseif not redis.call('HGET', guard.key, 'result') then
    redis.call('DEL', guard.key)
    next_in_line(guard)
  end
end
function release.unique(guard)
  if final and verb ~= 'retried' and redis.call('GET', guard.key) == task_id then redis.call('DEL', guard.key) end
end

for i = 14, #ARGV do
  local at = 10 + 3 * (i - 14)
  release[ARGV[i]]({key = KEYS[at], wait = KEYS[at + 1], head = KEYS[at + 2]})
end
redis.call('HDEL', running, mid)
if final then
  redis.call('SADD', done, digest)
  if redis.call('PTTL', done) < 0 then redis.call('PEXPIRE', done, string.format('%.0f', 2 * tonumber(kept))) end
  if verb == 'done' then redis.call('DEL', run, lease, checkpoint) else redis.call('DEL', run, lease) end
elseif held then
  redis.call('DEL', lease)
  if verb == 'lost' then lost = redis.call('HINCRBY', run, 'lost', 1) end
  redis.call('HSET', run, 'state', state == 'ran' and 'ran' or 'free', 'owner', '', 'token', '')
end
if #changed > 0 then
  local number = redis.call('INCR', news_seq)
  redis.call('XADD', news, 'MAXLEN', '~', news_kept, '*', 'n', number, 'kind', 'entries', 'what', table.concat(changed, ','))
end
return {now_text, 'ok', lost or 0}
