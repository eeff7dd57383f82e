// Producers and a worker of a BullMQ queue: node bullmq.js SOCKET PRODUCERS SECONDS
// All producers share a connection, and so do all jobs that the worker has at a time, as in most applications.
// Reports jobs per second until all that were added are done, and the time that adding a job took.
'use strict';

const { Queue, Worker } = require('bullmq');
const report = require('./report');

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

    report(per_second, latencies);
}

main().then(() => process.exit(0), (error) => {
    console.error(error);
    process.exit(1);
});
