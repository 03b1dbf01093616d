# Sidekiq. Speaks the lines of bench_agent.py.

require "json"

OUT = $stdout.dup
OUT.sync = true
$stdout.reopen($stderr) # what a library prints is not a line

require "sidekiq"

ROLE = ARGV[0]
CONFIG = JSON.parse(ARGV[1])
KEPT = 20
BULK = 1000
THREADS = 10
LOCK = Mutex.new

Sidekiq.logger.level = Logger::WARN

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
def emit(what) = LOCK.synchronize { OUT.write(JSON.generate(what) + "\n") }

def churn(i, rounds)
  rounds.times { i = (i * 1103515245 + 12345) & 0x7fffffff }
  i
end

def argument(job, i)
  return ((i + CONFIG["seed"]) * 2654435761 % 2**32) * 51 / 2**32 if job.end_with?("_sleep")
  job.end_with?("_cpu") ? CONFIG["cpu_rounds"] : 0
end

# Counts jobs that ended, and tells of each mark that is reached.
class Tally
  attr_reader :seen, :stamps

  def initialize(marks)
    @marks = marks.sort
    @seen = []
    @stamps = []
    @lock = Mutex.new
  end

  def hit(i)
    n = @lock.synchronize do
      @seen << i
      @seen.size if @seen.size == @marks.first && @marks.shift
    end
    emit(event: "mark", n: n, t: now) if n
  end

  def stamp(i)
    at = now
    @lock.synchronize { @stamps << [i, at] }
    hit(i)
  end
end

TALLY = Tally.new(CONFIG["marks"] || [])

class SyncNoop
  include Sidekiq::Worker
  sidekiq_options queue: "bench"
  def perform(i, x) = TALLY.hit(i)
end

class SyncSleep
  include Sidekiq::Worker
  sidekiq_options queue: "bench"
  def perform(i, x)
    sleep(x / 1000.0)
    TALLY.hit(i)
  end
end

class SyncCpu
  include Sidekiq::Worker
  sidekiq_options queue: "bench"
  def perform(i, x)
    churn(i, x)
    TALLY.hit(i)
  end
end

class SyncStamp
  include Sidekiq::Worker
  sidekiq_options queue: "bench"
  def perform(i, x) = TALLY.stamp(i)
end

JOBS = { "sync_noop" => SyncNoop, "sync_sleep" => SyncSleep, "sync_cpu" => SyncCpu, "sync_stamp" => SyncStamp }

def commands
  while (line = $stdin.gets)
    yield JSON.parse(line)
  end
  Process.exit!(1) # whoever started us is gone
end

def work
  require "sidekiq/cli"
  Sidekiq.configure_server do |config|
    config.redis = { url: CONFIG["url"] }
    config.options[:queues] = ["bench"]
    config.options[:concurrency] = CONFIG["concurrency"]
  end
  emit(event: "ready")
  exit! unless $stdin.gets
  Thread.new do
    commands do |command|
      next unless command["do"] == "report"
      seen = TALLY.seen.dup
      emit(event: "report", count: seen.size, sum: seen.sum, distinct: seen.uniq.size, stamps: TALLY.stamps)
    end
  end
  require "sidekiq/launcher"
  Sidekiq::Launcher.new(Sidekiq.options).run
  sleep
end

def items(job, first, n) = (first...(first + n)).map { |i| [i, argument(job, i)] }

def enqueue(command)
  job = JOBS.fetch(command["job"])
  all = items(command["job"], command["first"], command["n"])
  begin_at, wall = now, Time.now.to_f
  case command["mode"]
  when "one"
    all.each { |i, x| job.perform_async(i, x) }
  when "concurrent"
    threads = [command["width"], THREADS].min
    threads.times.map do |k|
      Thread.new { k.step(all.size - 1, threads) { |p| job.perform_async(*all[p]) } }
    end.each(&:join)
  else
    all.each_slice(BULK) { |part| Sidekiq::Client.push_bulk("class" => job, "args" => part) }
  end
  { n: command["n"], seconds: (now - begin_at) / 1e9, wall: [wall, Time.now.to_f] }
end

def arrivals(command)
  job = JOBS.fetch(command["job"])
  begin_at = now
  sent = items(command["job"], command["first"], command["n"]).each_with_index.map do |(i, x), k|
    at = begin_at + (k * 1e9 / command["rate"]).to_i
    while (left = at - now) > 0
      sleep(left / 1e9)
    end
    called = now
    job.perform_async(i, x)
    called
  end
  { sent: sent, done: nil, wrong: [] }
end

def serve
  Sidekiq.configure_client { |config| config.redis = { url: CONFIG["url"], size: THREADS } }
  Sidekiq.redis(&:ping)
  emit(event: "ready")
  commands do |command|
    answer =
      begin
        case command["do"]
        when "enqueue" then enqueue(command)
        when "arrivals" then arrivals(command)
        else { unsupported: true }
        end
      rescue StandardError => error
        { error: "#{error.class}: #{error.message}" }
      end
    emit({ event: "answer" }.merge(answer))
  end
end

ROLE == "worker" ? work : serve
