"""Producers and eight workers of a job queue: queues.py LIBRARY SOCKET PRODUCERS SECONDS

Prints, as JSON, jobs per second until all that were added are done, and percentiles of the time that adding a job took, in milliseconds.
"""

import json
import sys
import threading
import time

LIBRARY, SOCKET, PRODUCERS, SECONDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
WORKERS = 8
PATIENCE_S = 120

done = threading.Semaphore(0)


def of_dramatiq():
    """What adds a job; dramatiq's workers run it."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=f"unix://{SOCKET}")
    dramatiq.set_broker(broker)
    broker.flush_all()
    actor = dramatiq.actor(lambda number: done.release(), actor_name="job", broker=broker)
    dramatiq.Worker(broker, worker_threads=WORKERS).start()
    return actor.send


def of_huey():
    """What adds a job; threads of huey's consumer run it."""
    from huey import RedisHuey

    huey = RedisHuey("jobs", url=f"unix://{SOCKET}", results=False)
    huey.flush()

    @huey.task()
    def job(number):
        done.release()

    huey.create_consumer(workers=WORKERS, periodic=False, check_worker_health=False).start()
    return job


def main():
    add = {"dramatiq": of_dramatiq, "huey": of_huey}[LIBRARY]()
    latencies = []
    began = time.monotonic()

    def produce(producer):
        while time.monotonic() < began + SECONDS:
            sent = time.monotonic()
            add(producer)
            latencies.append(time.monotonic() - sent)

    producers = [threading.Thread(target=produce, args=(producer,)) for producer in range(PRODUCERS)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    for _ in latencies:
        if not done.acquire(timeout=PATIENCE_S):
            raise TimeoutError("a job was not done")
    per_second = len(latencies) / (time.monotonic() - began)

    latencies.sort()

    def percentile_ms(share):
        return latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000

    report = {"per_second": per_second}
    report.update({f"p{name}_ms": percentile_ms(share) for name, share in (("50", 0.5), ("99", 0.99), ("99_9", 0.999))})
    print(json.dumps(report), flush=True)


main()
