//! What programs inherit and unpacking needs otherwise: signals and the stack's limit. All of it is given back.

const std = @import("std");
const system = @import("system.zig");
const workers = @import("workers.zig");
const linux = system.linux;

/// The decompressor's stack, and some.
const stack = 1 << 20;

/// Signals that end an unpacking, which then clears away; and one that would end it without a message.
const signals = [_]linux.SIG{ .INT, .TERM, .HUP, .XFSZ };

var bus: linux.Sigaction = undefined;
var old: [signals.len]linux.Sigaction = undefined;
var limit: linux.rlimit = undefined;

/// A file that was cut off is noticed when the part that is missing is looked at.
pub fn watch() void {
    const action: linux.Sigaction = .{ .handler = .{ .handler = &unreadable }, .mask = @splat(0), .flags = 0 };
    _ = linux.sigaction(.BUS, &action, &bus);
}

/// As it was before `watch`: handlers do not outlive execve(2), but that a signal was ignored does.
pub fn unwatch() void {
    _ = linux.sigaction(.BUS, &bus, null);
}

fn unreadable(_: linux.SIG) callconv(.c) void {
    system.stop(system.damaged, &.{"a file ends too early: if it is this one, fetch it again"});
}

pub fn change() void {
    for (signals, &old) |signal, *before| {
        const handler = if (signal == .XFSZ) linux.SIG.IGN else &stopped;
        const action: linux.Sigaction = .{ .handler = .{ .handler = handler }, .mask = @splat(0), .flags = 0 };
        _ = linux.sigaction(signal, &action, before);
        // What the user wants ignored stays so.
        if (before.handler.handler == linux.SIG.IGN) _ = linux.sigaction(signal, before, null);
    }
    _ = linux.getrlimit(.STACK, &limit);
    const wanted: linux.rlimit = .{ .cur = @min(@max(limit.cur, stack), limit.max), .max = limit.max };
    _ = linux.setrlimit(.STACK, &wanted);
}

pub fn restore() void {
    for (signals, &old) |signal, *before| _ = linux.sigaction(signal, before, null);
    _ = linux.setrlimit(.STACK, &limit);
}

/// Nothing half is left, and the signal does what it would have done.
fn stopped(signal: linux.SIG) callconv(.c) void {
    if (!workers.is_first()) linux.exit_group(system.failed);
    workers.give_up();
    system.progress(&.{});
    restore();
    _ = linux.kill(linux.getpid(), signal);
    // It is held back until this function ends.
}
