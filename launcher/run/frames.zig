//! Frames back into contents: compressed with zstandard (RFC 8878), after branches were made more alike.

const std = @import("std");
const system = @import("system.zig");
const payload = @import("payload.zig");
const zstd = std.compress.zstd;

var buffer: []u8 = &.{};

/// What a frame holds. It stays until the next call of this process.
pub fn decode(frame: *const payload.Frame) []u8 {
    verify(frame);
    // The library writes no block unless the largest one would fit.
    const room = frame.size + zstd.block_size_max;
    if (buffer.len < room) {
        system.forget(buffer);
        buffer = system.map(room, false)[0..room];
    }
    var packed_bytes: std.Io.Reader = .fixed(frame.packed_bytes);
    var plain: std.Io.Writer = .fixed(buffer);
    var decoder: zstd.Decompress = .init(&packed_bytes, &.{}, .{ .window_len = @intCast(@max(frame.size, 1 << 10)) });
    const size = decoder.reader.streamRemaining(&plain) catch payload.broken();
    if (size != frame.size) payload.broken();
    return buffer[0..frame.size];
}

/// Ends with a message unless the frame is what was written.
pub fn verify(frame: *const payload.Frame) void {
    if (!std.mem.eql(u8, &payload.digest_of(frame.packed_bytes), frame.digest)) payload.broken();
}

/// Undoes a filter on a part of a file that stands at `start` of its frame. `behind` bytes of the file came before.
pub fn restore(filter: payload.Filter, bytes: []u8, start: u64, behind: u64) void {
    switch (filter) {
        .none => {},
        .x86 => restore_x86(bytes, @truncate(start)),
        .arm64 => restore_arm64(bytes, @truncate(start), @intCast((4 - behind % 4) % 4)),
        _ => payload.broken(),
    }
}

/// Calls and jumps (E8, E9), lea and mov of 64 bits (8D, 8B), with a place less than 32 MiB away: counted from the frame's
/// start it is one number for all that name one place. The sum stays in 26 bits, so what looks like such an instruction now is
/// what looked like one before; and what only looks half like one is passed over as a whole, as it was then.
fn restore_x86(bytes: []u8, start: u32) void {
    var at: usize = 0;
    while (at + 5 <= bytes.len) {
        const before = names_place(bytes[at..]);
        if (before == 0 or at + before + 4 > bytes.len) {
            at += 1;
            continue;
        }
        const place = bytes[at + before ..][0..4];
        at += before + 4;
        if ((place[3] +% 2) >= 4) continue;
        const to = std.mem.readInt(u32, place, .little) -% start -% @as(u32, @truncate(at));
        const low: i26 = @bitCast(@as(u26, @truncate(to)));
        std.mem.writeInt(i32, place, low, .little);
    }
}

/// How many bytes such an instruction has before its place, or 0.
fn names_place(bytes: []const u8) usize {
    if (bytes[0] & 0xfe == 0xe8) return 1;
    const is_lea_or_mov = bytes[0] & 0xf8 == 0x48 and (bytes[1] == 0x8d or bytes[1] == 0x8b) and bytes[2] & 0xc7 == 0x05;
    return if (is_lea_or_mov) 3 else 0;
}

/// BL, whose 26 bits count instructions.
fn restore_arm64(bytes: []u8, start: u32, first: usize) void {
    var at = first;
    while (at + 4 <= bytes.len) : (at += 4) {
        const place = bytes[at..][0..4];
        const word = std.mem.readInt(u32, place, .little);
        if (word >> 26 != 0x25) continue;
        const to = word -% ((start +% @as(u32, @truncate(at))) >> 2);
        std.mem.writeInt(u32, place, (0x25 << 26) | (to & 0x3ffffff), .little);
    }
}
