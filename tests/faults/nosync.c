/* A disk that lies: what was to be synced is not. Preloaded into the broker for the negative
   control, which shows that the audit notices a power cut when nothing was synced. */
int fdatasync(int fd) { (void)fd; return 0; }
int fsync(int fd) { (void)fd; return 0; }
