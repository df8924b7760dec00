import struct
from multiprocessing.shared_memory import SharedMemory

shared_mem = SharedMemory(name="MyMemory", create=False)

while True:
    try:
        shared_mem.buf[9:17] = struct.pack("d", 2.5)
        shared_mem.buf[18:26] = struct.pack("d", 3.5)
        shared_mem.buf[27:35] = struct.pack("d", 4.5)

        first = shared_mem.buf[0:8]
        second = shared_mem.buf[9:17]
        third = shared_mem.buf[18:26]
        fourth = shared_mem.buf[27:35]

        print(struct.unpack("d", first)[0])
        print(struct.unpack("d", second)[0])
        print(struct.unpack("d", third)[0])
        print(struct.unpack("d", fourth)[0])

    except KeyboardInterrupt:
        shared_mem.close()
