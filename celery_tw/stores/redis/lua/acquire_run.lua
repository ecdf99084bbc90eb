-- ACQUIRE RUN: begin a run, all or nothing: its record, its lease, and what its guards ask for.
-- KEYS  1 run  2 lease  3 running  4 token  5 done in this period  6 done in the period before  7 leader  8 seen; then per guard: its key, who waits, its head
-- ARGV  1 mid  2 digest of the mid  3 owner  4 task  5 task id  6 lease ms  7 period  8 done kept ms
--       9 'long' | 'once more' (long, and its message was sent by RESEND) | ''  10 leaderless grace ms
--       11 the guards, as the record keeps them  12 order kept ms  13 run kept ms; then per guard: kind, argument
-- reply {now, 'run', token, losses} | {now, 'ran', token, result} (the body has run: pass its result on) | {now, 'done'}
--       | {now, 'busy', ms left, 'stored' or ''} (this run has a runner) | {now, 'wait', guard, ms left, mids passed over} | {now, 'leaderless'} | {now, 'period'}
-- A repeated call brings the same owner, and is answered as the first one was.
-- The counter of a run begins at its token: a new process is never taken for the silent one before it.
-- A run that was buried has failed for good, whether its process lived to say so or not.
-- A record with a message holds the only copy there is, so it stays until the run has ended. Without a record there is no lease.
-- What was sent once more had a record: when that is gone the run has ended, however long ago.
-- uses now, leaderless
local run, lease, running, token_key, done, done_before, leader, seen = unpack(KEYS, 1, 8)
local mid, digest, owner, task, task_id, lease_ms, period, kept, long, grace, guards_text, order_kept, run_kept = unpack(ARGV, 1, 13)
local until_text = string.format('%.0f', now + tonumber(lease_ms))
if math.floor(now / tonumber(kept)) ~= tonumber(period) then return {now_text, 'period'} end
if redis.call('SISMEMBER', done, digest) == 1 or redis.call('SISMEMBER', done_before, digest) == 1 then return {now_text, 'done'} end

local state, holder, token, result, lost, envelope, buried =
  unpack(redis.call('HMGET', run, 'state', 'owner', 'token', 'result', 'lost', 'envelope', 'buried'))
if holder == owner and state == 'running' then return {now_text, 'run', token, lost or '0'} end
if holder == owner and state == 'ran' then return {now_text, 'ran', token, result} end
if buried or long == 'once more' and not state then return {now_text, 'done'} end
local held_ms = state and redis.call('PTTL', lease) or 0
if held_ms > 0 then return {now_text, 'busy', held_ms, envelope and 'stored' or ''} end
if long ~= '' and leaderless(leader, seen, grace) then return {now_text, 'leaderless'} end

-- Returns the reply when a guard says wait. Most runs have no guards, and are spared the making of these functions.
local known, passed = nil, {}
local function take_guards()
  local check, take = {}, {}

  function check.lock(guard)
    local by = redis.call('GET', guard.key)
    return by and by ~= mid and redis.call('PTTL', guard.key)
  end
  function take.lock(guard)
    if not redis.call('SET', guard.key, mid, 'NX', 'PX', lease_ms) then redis.call('PEXPIRE', guard.key, lease_ms) end
  end

  function check.sem(guard)
    redis.call('ZREMRANGEBYSCORE', guard.key, '-inf', now_text)
    if redis.call('ZSCORE', guard.key, mid) or redis.call('ZCARD', guard.key) < tonumber(guard.argument) then return nil end
    return tonumber(redis.call('ZRANGE', guard.key, 0, 0, 'WITHSCORES')[2]) - now
  end
  function take.sem(guard)
    redis.call('ZADD', guard.key, until_text, mid)
    redis.call('PEXPIRE', guard.key, lease_ms)
  end

  -- Who has no number yet gets the next one. A head that has not started within the patience given is passed over.
  function check.order(guard)
    if not redis.call('ZSCORE', guard.key, mid) then
      local last = tonumber(redis.call('ZRANGE', guard.key, -1, -1, 'WITHSCORES')[2] or '0')
      redis.call('ZADD', guard.key, string.format('%.0f', math.max(now, last + 1)), mid)
    end
    redis.call('PEXPIRE', guard.key, order_kept)
    local patience = tonumber(guard.argument)
    while true do
      local first = redis.call('ZRANGE', guard.key, 0, 0)[1]
      if first == mid then return nil end
      local head, since, started = unpack(redis.call('HMGET', guard.head, 'mid', 'since', 'started'))
      if head ~= first then
        redis.call('HSET', guard.head, 'mid', first, 'since', now_text, 'started', '')
        redis.call('PEXPIRE', guard.head, order_kept)
        return patience
      end
      if started == '1' then return tonumber(lease_ms) end
      local left = tonumber(since) + patience - now
      if left > 0 then return left end
      redis.call('ZREM', guard.key, first)
      passed[#passed + 1] = first
    end
  end
  function take.order(guard)
    redis.call('HSET', guard.head, 'mid', mid, 'since', now_text, 'started', '1')
    redis.call('PEXPIRE', guard.head, order_kept)
  end

  function check.idem(guard)
    local by, first_result = unpack(redis.call('HMGET', guard.key, 'mid', 'result'))
    if first_result then known = first_result return nil end
    return by and by ~= mid and redis.call('PTTL', guard.key)
  end
  function take.idem(guard)
    redis.call('HSET', guard.key, 'mid', mid)
    redis.call('PEXPIRE', guard.key, lease_ms)
  end

  function check.unique() return nil end
  function take.unique(guard)
    local by = redis.call('GET', guard.key)
    if not by or by == task_id then redis.call('SET', guard.key, task_id, 'PX', lease_ms) end
  end

  local guards = {}
  for i = 14, #ARGV, 2 do
    local at = 9 + 3 * #guards
    guards[#guards + 1] = {kind = ARGV[i], argument = ARGV[i + 1], key = KEYS[at], head = KEYS[at + 2]}
  end
  for number, guard in ipairs(guards) do
    local wait_ms = check[guard.kind](guard)
    if known then return end
    if wait_ms then return {now_text, 'wait', number - 1, wait_ms, table.concat(passed, ' ')} end
  end
  for _, guard in ipairs(guards) do take[guard.kind](guard) end
end
if #ARGV > 13 and state ~= 'ran' then
  local wait = take_guards()
  if wait then return wait end
end

token = string.format('%.0f', math.max(tonumber(redis.call('GET', token_key) or '0') + 1, now))
redis.call('SET', token_key, token)
redis.call('SET', lease, token, 'NX', 'PX', lease_ms)
redis.call('HSET', run, 'state', 'running', 'owner', owner, 'token', token, 'task', task, 'id', task_id, 'at', now_text, 'guards', guards_text)
if envelope then redis.call('PERSIST', run) else redis.call('PEXPIRE', run, run_kept) end
redis.call('HSET', running, mid, token)
if known then redis.call('HSET', run, 'result', known) end
if known or state == 'ran' then
  redis.call('HSET', run, 'state', 'ran')
  return {now_text, 'ran', token, known or result}
end
return {now_text, 'run', token, lost or '0', table.concat(passed, ' ')}
