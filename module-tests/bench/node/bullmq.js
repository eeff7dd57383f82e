// Producers and a worker of a BullMQ queue: node bullmq.js SOCKET PRODUCERS SECONDS
// All producers share a connection, and so do all jobs that the worker has at a time, as in most applications.
// Prints, as JSON, jobs per second until all that were added are done, and percentiles of the time that adding a job took, in milliseconds.
'use strict';

const { Queue, Worker } = require('bullmq');

const [socket, producers, seconds] = process.argv.slice(2);
const connection = { path: socket, maxRetriesPerRequest: null };
const worker_concurrency = 50;

async function main() {
    const queue = new Queue('jobs', { connection, defaultJobOptions: { removeOnComplete: true } });
    await queue.obliterate({ force: true });
    const worker = new Worker('jobs', async () => {}, { connection, concurrency: worker_concurrency });
    let done = 0;
    let added = Infinity;
    const all_done = new Promise((resolve) => {
        worker.on('completed', () => {
            done += 1;
            if (done >= added) resolve();
        });
    });
    await worker.waitUntilReady();

    const latencies = [];
    const began = performance.now();
    const end = began + Number(seconds) * 1000;
    async function produce(producer) {
        for (let number = 0; performance.now() < end; number += 1) {
            const sent = performance.now();
            await queue.add('job', { producer, number });
            latencies.push(performance.now() - sent);
        }
    }
    await Promise.all(Array.from({ length: Number(producers) }, (_, producer) => produce(producer)));
    added = latencies.length;
    if (done < added) await all_done;
    const per_second = added / (performance.now() - began) * 1000;
    await worker.close(true);
    await queue.close();

    latencies.sort((one, other) => one - other);
    const percentile = (share) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))];
    console.log(JSON.stringify({
        per_second,
        p50_ms: percentile(0.5),
        p99_ms: percentile(0.99),
        p99_9_ms: percentile(0.999),
    }));
}

main().then(() => process.exit(0), (error) => {
    console.error(error);
    process.exit(1);
});
