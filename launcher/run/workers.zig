//! Work on all cores: processes that share a counter. (Threads would need what a C library sets up, and helpers that die
//! take nothing with them.)

const std = @import("std");
const system = @import("system.zig");
const linux = system.linux;

const most = 8;

const Shared = extern struct { next: u64, done: u64, failed: i32 };

var shared: *Shared = undefined;
var helpers: [most]linux.pid_t = undefined;
var count: usize = 0;
var parent: linux.pid_t = 0;
/// What is to be cleared away by the first process if it ends with a message.
pub var clear: *const fn () void = &nothing;

pub fn nothing() void {}

/// Whether this is the process that all others are helpers of.
pub fn is_first() bool {
    return linux.getpid() == parent;
}

pub fn start() void {
    shared = @ptrCast(system.map(@sizeOf(Shared), true));
    parent = linux.getpid();
    system.may_speak = &first_failure;
    system.before_exit = &end;
}

/// Makes all helpers end after what they are doing, clears away, and says nothing.
pub fn give_up() void {
    _ = first_failure(system.failed);
    end();
}

fn first_failure(status: i32) bool {
    return @cmpxchgStrong(i32, &shared.failed, 0, status, .seq_cst, .seq_cst) == null;
}

/// A message was said, or a helper is about to say one: each ends after what it is doing. Only when nobody writes any more is
/// there something to clear away.
fn end() void {
    if (!is_first()) return;
    wait();
    clear();
}

fn wait() void {
    var status: i32 = 0;
    // Where SIGCHLD is ignored this waits too, and says that there is no child.
    for (helpers[0..count]) |pid| while (linux.errno(linux.wait4(pid, &status, 0, null)) == .INTR) {};
    count = 0;
}

/// Does `work` for 0 to `jobs`, and tells `progress` how many are done.
pub fn each(jobs: usize, context: anytype, comptime work: fn (@TypeOf(context), usize) void, progress: *const fn (usize) void) void {
    shared.next = 0;
    shared.done = 0;
    const wanted = @min(cores(), jobs, most) -| 1;
    while (count < wanted) {
        const pid = linux.fork();
        // No more processes are allowed: fewer will do.
        if (linux.errno(pid) != .SUCCESS) break;
        if (pid == 0) {
            _ = linux.prctl(@backingInt(linux.PR.SET_PDEATHSIG), @backingInt(linux.SIG.KILL), 0, 0, 0);
            if (linux.getppid() != parent) linux.exit_group(system.failed);
            drain(jobs, context, work, &ignore);
            linux.exit_group(0);
        }
        helpers[count] = @intCast(pid);
        count += 1;
    }
    drain(jobs, context, work, progress);
    wait();
    if (shared.failed != 0) system.stop(shared.failed, &.{});
    if (shared.done != jobs) system.fail(&.{"a helper process was killed: is there too little memory?"});
}

fn drain(jobs: usize, context: anytype, comptime work: fn (@TypeOf(context), usize) void, progress: *const fn (usize) void) void {
    while (@atomicLoad(i32, &shared.failed, .seq_cst) == 0) {
        const job = @atomicRmw(u64, &shared.next, .Add, 1, .seq_cst);
        if (job >= jobs) return;
        work(context, job);
        progress(@atomicRmw(u64, &shared.done, .Add, 1, .seq_cst) + 1);
    }
}

pub fn ignore(_: usize) void {}

fn cores() usize {
    var set: linux.cpu_set_t = @splat(0);
    const size = linux.sched_getaffinity(0, @sizeOf(linux.cpu_set_t), &set);
    if (linux.errno(size) != .SUCCESS) return 1;
    var found: usize = 0;
    for (set) |word| found += @popCount(word);
    return found;
}
