// What a load of scripts/bench prints, as JSON: what it has done per second, and percentiles of what each step took, in milliseconds.
'use strict';

module.exports = function report(per_second, latencies) {
    latencies.sort((one, other) => one - other);
    const percentile = (share) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))];
    console.log(JSON.stringify({
        per_second,
        p50_ms: percentile(0.5),
        p99_ms: percentile(0.99),
        p99_9_ms: percentile(0.999),
    }));
};
