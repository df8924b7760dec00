from multiprocessing.shared_memory import SharedMemory

shared_mem = SharedMemory(name="MyMemory", create=False)

while True:
    try:
        shared_mem.buf[1] = 2
        shared_mem.buf[2] = 3
        shared_mem.buf[3] = 4

        print(shared_mem.buf[0])
        print(shared_mem.buf[1])
        print(shared_mem.buf[2])
        print(shared_mem.buf[3])

    except KeyboardInterrupt:
        shared_mem.close()
