from multiprocessing.shared_memory import SharedMemory

shared_mem = SharedMemory(name="MyMemory", size=1024, create=True)

while True:
    try:
        shared_mem.buf[0] = 1

        print(shared_mem.buf[0])
        print(shared_mem.buf[1])
        print(shared_mem.buf[2])
        print(shared_mem.buf[3])

    except KeyboardInterrupt:
        shared_mem.close()
        shared_mem.unlink()
