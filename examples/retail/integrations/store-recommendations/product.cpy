      * PRODUCT MASTER. RECFM F, LRECL 128, CODE PAGE 037.
       01  PRODUCT-RECORD.
           05  PRODUCT-ID            PIC 9(9)   COMP-3.
           05  MANUFACTURER-ID       PIC 9(5)   COMP-3.
           05  DEPARTMENT            PIC X(16).
           05  BRAND                 PIC X(8).
           05  PRODUCT-CATEGORY      PIC X(30).
           05  PRODUCT-TYPE          PIC X(30).
           05  PACKAGE-SIZE          PIC X(16).
           05  FILLER                PIC X(20).
