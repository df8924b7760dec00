//! ringspan: shared memory that unrelated processes can await.
