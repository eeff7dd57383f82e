// Callers of a client library, side by side: node callers.js LIBRARY SOCKET CALLERS SECONDS
// iovalkey: all share a connection, and call a command that the library makes of a script, one after the other.
// redis: each has a connection, and sends pipelines of 20 SETs.
// Reports commands per second, and the time that a call took.
'use strict';

const report = require('./report');

const [library, socket, callers, seconds] = process.argv.slice(2);
const value = 'v'.repeat(64);
const keys = 100000;
const pipeline = 20;
const random_key = () => `key:${Math.floor(Math.random() * keys)}`;

async function of_iovalkey() {
    const { Redis } = require('iovalkey');
    const client = new Redis({ path: socket, maxRetriesPerRequest: null });
    client.defineCommand('put', { numberOfKeys: 1, lua: "return redis.call('SET', KEYS[1], ARGV[1])" });
    return { commands: 1, open: async () => () => client.put(random_key(), value) };
}

async function of_redis() {
    const { createClient } = require('redis');
    async function open() {
        const client = await createClient({ socket: { path: socket } }).connect();
        return () => {
            const batch = client.multi();
            for (let number = 0; number < pipeline; number += 1) batch.set(random_key(), value);
            return batch.execAsPipeline();
        };
    }
    return { commands: pipeline, open };
}

async function main() {
    const { commands, open } = await (library === 'redis' ? of_redis() : of_iovalkey());
    const calls = await Promise.all(Array.from({ length: Number(callers) }, open));
    await calls[0]();
    const latencies = [];
    const began = performance.now();
    const end = began + Number(seconds) * 1000;
    async function repeat(call) {
        while (performance.now() < end) {
            const sent = performance.now();
            await call();
            latencies.push(performance.now() - sent);
        }
    }
    await Promise.all(calls.map(repeat));
    report(latencies.length * commands / (performance.now() - began) * 1000, latencies);
}

main().then(() => process.exit(0), (error) => {
    console.error(error);
    process.exit(1);
});
